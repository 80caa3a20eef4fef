"""Writing of model folders: config.json, model.safetensors, tokenizer.json and a manifest with checksums.

Training checkpoints have our own names of tensors. A model folder has those of transformers if one of its classes
computes the same, so that from_pretrained opens the folder. config.json has our keys beside those of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptctl.core import atomic
from gptctl.core.config import plain
from gptctl.core.errors import UsageError
from gptctl.core.written_files import CARD
from gptctl.model.classifier import Classifier
from gptctl.model.files import model_manifest, tensor_files
from gptctl.model.files.lazy_tensor import LazyTensor, lazily
from gptctl.model.files.weight_files import WEIGHTS
from gptctl.model.gpt import GPT
from gptctl.model.hf.config_export import to_hf_config
from gptctl.model.hf.family_lookup import closest_family, unsupported_reason
from gptctl.model.hf.files import token_ids, write_tokenizer_files
from gptctl.model.hf.model_card import model_card
from gptctl.model.hf.tensors import lazy_hf_tensors
from gptctl.model.vocab_padding import unpad_lazily

__all__ = ["save_model"]

Weights = Mapping[str, LazyTensor]


def save_model(
    folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any], weights: Weights | None = None
) -> None:
    """Write a model folder atomically, one tensor after the other.

    `extra` is stored in config.json, e.g. the names of a classifier's labels. `weights` under our names replace those
    of the model, which may then be on the meta device.
    """
    with atomic.atomic_folder(folder) as temporary:
        write_model(temporary, model, tokenizer_json, extra, weights or own_weights(model))
        model_manifest.write_manifest(temporary, "model")


def own_weights(model: GPT | Classifier) -> Weights:
    """Return the weights of a model."""
    return lazily(model.state_dict())


def write_model(
    folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any], weights: Weights
) -> None:
    """Write the files of a model for transformers if one of its classes fits, else with our own names."""
    try:
        write_transformers(folder, model, tokenizer_json, extra, weights=weights)
    except UsageError:
        write_weights(folder, model, weights)
        write_config(folder, model, tokenizer_json, extra)
        atomic.write_text(folder / CARD, model_card(model.config, "", extra))


def write_transformers(
    folder: Path,
    model: GPT | Classifier,
    tokenizer_json: str,
    extra: dict[str, Any],
    dtype: torch.dtype = torch.float32,
    max_bytes: int = 0,
    weights: Weights | None = None,
) -> None:
    """Write the files of a model for transformers. `max_bytes` is passed to tensor_files.write_weights.

    `weights` under our names replace those of the model.

    Raises UsageError (2), before anything is written, if no class of transformers computes the same.
    """
    hint = "gptctl reads the folder of its run; see docs/export.md for what can be exported"
    if isinstance(model, Classifier):
        raise UsageError("no class of transformers has the label head of a classifier", hint)
    if reason := unsupported_reason(model.config):
        raise UsageError(reason, hint)
    family = closest_family(model.config)
    tensors = lazy_hf_tensors(weights or own_weights(model), model.config, family, dtype)
    tensor_files.write_weights(folder, tensors, max_bytes)
    values = to_hf_config(model.config, family, str(dtype).removeprefix("torch."))
    values |= token_ids(tokenizer_json, extra)
    atomic.write_json(folder / "config.json", values | {"gptctl": plain(model.config), "labels": 0, "extra": extra})
    write_tokenizer_files(folder, model.config, tokenizer_json, extra)
    atomic.write_text(folder / CARD, model_card(model.config, family.architecture, extra))


def write_weights(folder: Path, model: GPT | Classifier, weights: Mapping[str, Tensor | LazyTensor]) -> None:
    """Write weights under our names. They may be older than those that the model has now."""
    lazy = {name: t if isinstance(t, LazyTensor) else LazyTensor.of(t) for name, t in weights.items()}
    tensors = {name: unpad_lazily(name, tensor, model.config) for name, tensor in lazy.items()}
    tensor_files.write_tensors(folder / WEIGHTS, tensors)


def write_config(folder: Path, model: GPT | Classifier, tokenizer_json: str, extra: dict[str, Any]) -> None:
    """Write config.json, with our keys alone, and tokenizer.json."""
    head: dict[str, Any] = {"labels": 0}
    if isinstance(model, Classifier):
        head = {"labels": model.labels, "pooling": model.pooling}
    atomic.write_json(folder / "config.json", {"gptctl": plain(model.config)} | head | {"extra": extra})
    atomic.write_text(folder / "tokenizer.json", tokenizer_json)
