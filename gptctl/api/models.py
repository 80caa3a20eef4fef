"""Models and runs: generating text, scoring text, and classifying it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    pass

Dtype = Literal["float32", "bfloat16", "int8"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Score:
    """How likely a model finds a text. `nats` is the sum of -ln p over its `tokens`; `bytes` are those of the text."""

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """The score in bits per UTF-8 byte, which can be compared between tokenizers."""
        from math import log

        return self.nats / (log(2) * self.bytes) if self.bytes else 0.0


class Model:
    """A language model or a classifier. It is loaded when it is first used.

    path: a model folder, a checkpoint, an adapter or a Hugging Face folder.
    """

    def __init__(self, path: str | Path, dtype: Dtype = "float32", device: DeviceName = "auto") -> None:
        from gptctl.model.files.locate import find_model

        self.path = str(path)
        self.dtype = dtype
        self.device = device
        self.folder = find_model(self.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings in config.json."""
        found = json.loads((self.folder / "config.json").read_bytes())
        return found if isinstance(found, dict) else {}


class Run(Model):
    """The output of pretrain or finetune: a model, and how it was trained."""
