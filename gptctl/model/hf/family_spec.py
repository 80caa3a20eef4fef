"""How a class of transformers relates to our model: the configs that it can compute, its settings and its modules.

Each family is a table of this kind, in gptctl/model/hf/families. What the tables leave out has our default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from gptctl.model.config import BiasPart, ModelConfig

Values = dict[str, Any]
GELU_ALIASES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
BIAS_PARTS: Mapping[str, BiasPart] = {
    "attention.query": "qkv",
    "attention.key": "qkv",
    "attention.value": "qkv",
    "attention.output": "attention_output",
    "feed_forward.up": "feed_forward",
    "feed_forward.gate": "feed_forward",
    "feed_forward.down": "feed_forward",
    "attention_norm": "norm",
    "attention_output_norm": "norm",
    "feed_forward_norm": "norm",
    "feed_forward_output_norm": "norm",
    "final_norm": "norm",
}


@dataclass(frozen=True)
class ModuleMap:
    """A module of the class, and the modules of gptctl that it holds, concatenated along their outputs."""

    hf_name: str  # {expert} stands for the number of an expert
    names: tuple[str, ...]
    transposed: bool = False  # Conv1D stores its weight as (in, out)
    # It holds our weight times sqrt(hidden_size) if embeddings are scaled, or our query times 1/sqrt(head_dim).
    scaled: Literal["", "embedding", "query"] = ""
    # The rows of queries, keys and values are ordered by key-value head: its queries, its key, its value.
    by_kv_head: bool = False
    unused_rows: int = 0  # rows before ours that the class never reads; they are written as zeros


class ConfigKey(NamedTuple):
    """A key of our config, the key of transformers' config.json, and what it means if that is absent.

    If `zero_is_none`, null there is 0 here.
    """

    name: str
    hf_name: str
    default: Any
    zero_is_none: bool = False


class BiasKey(NamedTuple):
    """The parts of a block that have biases if a key of config.json is true; without a key they always have them."""

    hf_name: str
    default: bool
    parts: tuple[BiasPart, ...]


class FixedValue(NamedTuple):
    """A value of config.json without which the class computes something that our model cannot.

    `default` is what an absent one means.
    """

    value: Any
    default: Any


@dataclass(frozen=True)
class RopeKeys:
    """How the class describes its rotary positions."""

    default_theta: float = 1e4
    theta_key: str = "rope_theta"  # beside rope_parameters
    partial_key: str = ""  # that of the rotated share of each head; without one the class rotates all
    default_partial: float = 1.0
    by_layer_type: bool = False  # rope_parameters has a table for each type of layer, and sliding layers are not scaled
    sliding_theta_key: str = "rope_theta"
    default_sliding_theta: float = 1e4
    default_original: int | None = None  # what an absent original_max_position_embeddings beside them means
    types: tuple[str, ...] = ("none", "linear", "dynamic", "llama3", "yarn", "longrope")
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names of rope types


@dataclass(frozen=True)
class WindowKeys:
    """How the class says which layers have a sliding window.

    style: "all" is every layer or none, by the key sliding_window. "layer_types" is a list, and `default_types` makes
    it where it is absent. "attention_layers" is the list of GPT-Neo. `switch` is a key without which there are none.
    """

    style: Literal["all", "layer_types", "attention_layers"]
    default: int | None = None  # what an absent sliding_window means
    switch: str = ""
    default_types: Callable[[Values, int], list[str]] | None = None


@dataclass(frozen=True)
class Family:
    """A class of transformers."""

    architecture: str
    model_type: str
    prefix: str  # of the names of all tensors but the head's
    layer_prefix: str  # of the names of a block's tensors, with {layer}
    constants: Mapping[str, Any]  # keys of our config that the class fixes, as far as they differ from our defaults
    config_keys: tuple[ConfigKey, ...]
    activations: Mapping[str, str]  # our name: theirs
    activation_key: str
    outer_modules: tuple[ModuleMap, ...]  # before and after the blocks; the first one is the embedding
    block_modules: tuple[ModuleMap, ...]
    biases: tuple[BiasKey, ...] = ()
    rope: RopeKeys | None = None
    windows: WindowKeys | None = None
    fixed_values: Mapping[str, FixedValue] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names for activations and keys
    has_head_dim: bool = False  # whether a key head_dim counts
    default_head_dim: int | None = None  # what an absent head_dim means; None is hidden_size / heads
    intermediate_factor: int = 0  # intermediate_size / hidden_size, if the class fixes it
    head_name: str = "lm_head"
    # What no table says: read(values, ours, unsupported) changes ours, write(config, values) changes values, and
    # modules(config) are block_modules that depend on the config.
    read: Callable[[Values, Values, list[str]], None] | None = None
    write: Callable[[ModelConfig, Values], None] | None = None
    modules: Callable[[ModelConfig], tuple[ModuleMap, ...]] | None = None

    def has_bias(self, config: ModelConfig, names: tuple[str, ...]) -> bool:
        """Return whether a module of the class has biases that holds these modules of gptctl, for a config."""
        part = BIAS_PARTS.get(names[0])
        return any(
            part in biases.parts and (self.tells_bias(biases, config) if biases.hf_name else biases.default)
            for biases in self.biases
        )

    def tells_bias(self, biases: BiasKey, config: ModelConfig) -> bool:
        """Return the value of a key about biases: true if one of its parts has them."""
        return any(config.has_bias(part) for part in biases.parts if part != "norm")


def conv1d(hf_name: str, *names: str) -> ModuleMap:
    """Describe a Conv1D of GPT-1 and GPT-2."""
    return ModuleMap(hf_name, names, transposed=True)


def module(hf_name: str, *names: str) -> ModuleMap:
    """Describe a module that stores its tensors as ours do, one after the other."""
    return ModuleMap(hf_name, names)
