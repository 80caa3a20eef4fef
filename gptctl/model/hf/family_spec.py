"""How a class of transformers relates to our model: the configs that it can compute, its settings and its modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Bias = Literal["never", "as_config", "always"]
GELU_ALIASES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}


@dataclass(frozen=True)
class ModuleMap:
    """A module of the class, and the modules of gptctl that it holds, concatenated along their outputs."""

    hf_name: str  # {expert} stands for the number of an expert
    names: tuple[str, ...]
    transposed: bool = False  # Conv1D stores its weight as (in, out)
    bias: Bias = "never"  # whether it has a bias: never, where our config has biases, or always
    # It holds our weight times sqrt(hidden_size) if embeddings are scaled, or our query times 1/sqrt(head_dim).
    scaled: Literal["", "embedding", "query"] = ""


class ConfigKey(NamedTuple):
    """A key of our config, the key of transformers' config.json, and what it means if that is absent."""

    name: str
    hf_name: str
    default: Any


class FixedValue(NamedTuple):
    """A value of config.json without which the class computes something that our model cannot.

    `default` is what an absent one means.
    """

    value: Any
    default: Any


@dataclass(frozen=True)
class Family:
    """A class of transformers."""

    architecture: str
    model_type: str
    prefix: str  # of the names of all tensors but the head's
    layer_prefix: str  # of the names of a block's tensors, with {layer}
    supported: Mapping[str, tuple[Any, ...]]  # keys of our config, and the values that the class can compute
    config_keys: tuple[ConfigKey, ...]
    activations: Mapping[str, str]  # our name: theirs
    activation_key: str
    outer_modules: tuple[ModuleMap, ...]  # before and after the blocks
    block_modules: tuple[ModuleMap, ...]
    fixed_values: Mapping[str, FixedValue] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names for activations and keys
    intermediate_factor: int = 0  # intermediate_size / hidden_size, if the class fixes it
    layer_types_key: str = ""  # the key that lists global and local (sliding) layers, if the class has them
    default_head_dim: int | None = None  # what an absent head_dim means; None is hidden_size / heads
    default_rope_theta: float = 1e4


def conv1d(hf_name: str, *names: str, bias: Bias = "always") -> ModuleMap:
    """Describe a Conv1D of GPT-1 and GPT-2."""
    return ModuleMap(hf_name, names, transposed=True, bias=bias)


def module(hf_name: str, name: str, bias: Bias = "never") -> ModuleMap:
    """Describe a module that stores its tensors as ours does."""
    return ModuleMap(hf_name, (name,), bias=bias)
