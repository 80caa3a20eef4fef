"""Libraries that gptctl uses but does not install by itself, and the command that installs each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from gptctl.core.errors import MachineError

TORCH_FOR_CPU = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Extra:
    """A library that some features need.

    use: what needs the library, as the subject of a sentence.
    requirements: what pip installs.
    extra: the name in gptctl's pyproject.toml, or an empty string.
    advice: what else the hint says.
    """

    use: str
    requirements: tuple[str, ...]
    extra: str = ""
    advice: str = ""


# By the name of the module that is imported.
EXTRAS: Mapping[str, Extra] = {
    "datasets": Extra("to_datasets", ("datasets",)),
    "fugashi": Extra("Japanese words", ("fugashi>=1.5", "ipadic>=1.0"), "japanese"),
    "gguf": Extra("--format gguf", ("gguf>=0.19",), "gguf"),
    "icu": Extra("words of Lao, Khmer and Burmese", ("pyicu>=2.13",), advice="needs a compiler and ICU's headers"),
    "lm_eval": Extra("--harness", ("lm-eval==0.4.13",), "lm-eval"),
    "nlpo3": Extra("Thai words", ("nlpo3>=1.4", "pythainlp>=5.2"), "thai"),
    "pandas": Extra("to_pandas", ("pandas",)),
    "polars": Extra("to_polars", ("polars",)),
    "ray": Extra("--executor ray", ("ray>=2.50",), "ray"),
    "redis": Extra("redis=URL", ("redis>=5",), "redis"),
    "sacrebleu": Extra("--metrics bleu,chrf", ("sacrebleu>=2.5",), "text-metrics"),
    "starlette": Extra("serve", ("starlette>=1.0", "uvicorn>=0.40"), "serve"),
    "tensorboard": Extra("loggers=tensorboard", ("tensorboard>=2.20",), "tensorboard"),
    "torch": Extra(
        "training and running models", ("torch>=2.10",), "train",
        f"on Linux without a GPU add --index-url {TORCH_FOR_CPU}",
    ),
    "trafilatura": Extra("extractor=trafilatura", ("lxml-html-clean>=0.4", "trafilatura>=2.0"), "trafilatura"),
    "uvicorn": Extra("serve", ("uvicorn>=0.40", "starlette>=1.0"), "serve"),
    "wandb": Extra("loggers=wandb", ("wandb>=0.31",), "wandb"),
}  # fmt: skip


def require(name: str) -> ModuleType:
    """Import an optional library. Raises MachineError (4), whose hint installs it, if that fails."""
    try:
        return import_module(name)
    except ImportError as error:
        raise missing(name, error) from error


def missing(name: str, error: ImportError) -> MachineError:
    """Return the error for an optional library that cannot be imported."""
    extra, module = EXTRAS[name], name.replace("_", "-")
    is_absent = isinstance(error, ModuleNotFoundError) and error.name == name
    reason = "is not installed" if is_absent else f"cannot be imported: {error}"
    return MachineError(f"{extra.use} needs the package {module}, which {reason}", install_hint(extra))


def install_hint(extra: Extra) -> str:
    """Return the command that installs a library where gptctl runs: by pip, or by uv where pip is absent."""
    tool = "pip install" if find_spec("pip") else f"uv pip install --python {sys.executable}"
    command = " ".join([tool, *(f"'{requirement}'" for requirement in extra.requirements)])
    return f"{command} ({extra.advice})" if extra.advice else command
