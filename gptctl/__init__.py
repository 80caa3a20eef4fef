"""gptctl: one command-line tool from raw text to an evaluated GPT, and its Python interface.

Importing this package loads neither torch nor pyarrow. A function is built when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "GptctlError",
    "Model",
    "Run",
    "Summary",
    "clean",
    "dedup",
    "evaluate",
    "export",
    "finetune",
    "generate",
    "load",
    "pretrain",
    "report",
    "split",
    "tokenize",
]

_MODULES = {
    "Dataset": "gptctl.api.datasets",
    "GptctlError": "gptctl.core.errors",
    "Model": "gptctl.api.models",
    "Run": "gptctl.api.models",
    "Summary": "gptctl.core.summary",
    "load": "gptctl.api.loading",
}


def __getattr__(name: str) -> Any:
    """Return a public name, importing what it needs. Names are looked up by text, so that nothing imports upwards."""
    if name not in __all__:
        raise AttributeError(f"module 'gptctl' has no attribute '{name}'")
    module = _MODULES.get(name)
    found = getattr(import_module(module), name) if module else import_module("gptctl.api.commands").function(name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
