"""What a class of transformers is to us: which of our configs it computes, its settings, and its modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Bias = Literal["never", "ours", "always"]
GELU_SYNONYMS = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}


@dataclass(frozen=True)
class Module:
    """One module of a class, and which of ours it holds: several lie one after the other along its outputs."""

    theirs: str  # {expert} stands for each expert's number
    ours: tuple[str, ...]
    transposed: bool = False  # Conv1D keeps its weight as (in, out)
    bias: Bias = "never"  # whether it has one: never, where ours have one, or always
    scaled: Literal["", "embedding", "query"] = ""  # holds ours times sqrt(width), or times 1/sqrt(width per head)


@dataclass(frozen=True)
class Family:
    """One class of transformers: which of our configs it can compute, its settings, and its modules."""

    architecture: str
    model_type: str
    prefix: str  # of all names but the head's
    layer: str  # prefix of a block's names, with {layer}
    needs: Mapping[str, tuple[Any, ...]]  # our keys, and the values that the class can compute
    keys: tuple[tuple[str, str, Any], ...]  # our key, theirs, and what an absent one means
    activations: Mapping[str, str]  # ours and theirs
    activation_key: str
    # Their keys that stand for what no config of ours does: the value for "not so", and what an absent one means.
    constants: Mapping[str, tuple[Any, Any]]
    around: tuple[Module, ...]  # before and after the blocks
    block: tuple[Module, ...]
    synonyms: Mapping[str, str] = field(default_factory=dict)  # other names of theirs, for activations and keys


def linear(theirs: str, *ours: str, bias: Bias = "always") -> Module:
    """Describe a Conv1D of GPT-1 and GPT-2."""
    return Module(theirs, ours, transposed=True, bias=bias)


def plain(theirs: str, ours: str, bias: Bias = "never") -> Module:
    """Describe a module that keeps its tensors as we do."""
    return Module(theirs, (ours,), bias=bias)
