"""A model's tensors under the names of transformers, in both directions, by the tables of families.

A tensor that only one side has must have the value that it implies on the other: zero for a bias, the sinusoidal table
for positions. So nothing is lost, and what is exported in float32 is imported bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gptctl.core.errors import DataError, UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT, sinusoidal_positions
from gptctl.model.hf.family_lookup import hf_ties_head
from gptctl.model.hf.family_spec import Family, ModuleMap
from gptctl.model.meta_init import meta_init
from gptctl.model.vocab_padding import unpad_vocab

SINES = "sines"  # our sinusoidal table, which is never saved
# Older files also hold masks and the frequencies of rotary positions, which are no parameters.
NOT_PARAMETERS = (".attn.bias", ".masked_bias", ".attention.bias", ".inv_freq")

Tensors = dict[str, Tensor]


class ChangedError(Exception):
    """The tensors are not those that gptctl's config implies."""


@dataclass(frozen=True)
class MappedModule:
    """A module of transformers in a model of a certain size, and the modules of gptctl that it holds."""

    hf_name: str
    names: tuple[str, ...]
    kind: ModuleMap
    has_bias: bool
    layer: int | None = None
    expert: int | None = None
    scale: float = 1.0

    def tensor_names(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the name of each of its tensors, and the names in gptctl that it holds."""
        if self.expert is not None or self.names == (SINES,):
            yield f"{self.hf_name}.weight", self.names
        else:
            yield f"{self.hf_name}.weight", tuple(f"{name}.weight" for name in self.names)
            if self.has_bias:
                yield f"{self.hf_name}.bias", tuple(f"{name}.bias" for name in self.names)


def map_modules(family: Family, config: ModelConfig) -> list[MappedModule]:
    """List the modules of a model of this config in a class of transformers."""
    scales = {
        "embedding": math.sqrt(config.hidden_size) if config.embedding_scale else 1.0,
        "query": config.head_dim**-0.5,
    }
    found = []
    for kind in family.outer_modules:
        names = (SINES,) if kind.names == ("positions",) and config.positions == "sinusoidal" else kind.names
        scale = scales.get(kind.scaled, 1.0)
        found.append(MappedModule(kind.hf_name, names, kind, kind.bias == "always", scale=scale))
    for layer in range(config.layers):
        prefix = family.layer_prefix.format(layer=layer)
        for kind in family.block_modules:
            names = tuple(f"blocks.{layer}.{name}" for name in kind.names)
            if config.activation != "swiglu":  # relu(z) * z = relu(z)^2
                names = tuple(name.replace("feed_forward.gate", "feed_forward.up") for name in names)
            has_bias = kind.bias == "always" or (kind.bias == "as_config" and config.bias)
            scale = scales.get(kind.scaled, 1.0)
            experts = range(config.experts) if "{expert}" in kind.hf_name else (None,)
            found += [
                MappedModule(prefix + kind.hf_name.format(expert=expert), names, kind, has_bias, layer, expert, scale)
                for expert in experts
            ]
    if not hf_ties_head(config):
        head = "embedding" if config.tie_embeddings else "head"
        found.append(MappedModule("lm_head", (head,), ModuleMap("lm_head", (head,)), has_bias=False))
    return found


def to_hf_tensors(weights: Tensors, config: ModelConfig, family: Family, dtype: torch.dtype = torch.float32) -> Tensors:
    """Return a model's state_dict under the names of a family, without the padding of the vocabulary.

    Raises UsageError (2) if the class does not have biases that are not zero.
    """
    state = {name: unpad_vocab(name, tensor.detach(), config).to(dtype) for name, tensor in weights.items()}
    state[SINES] = sinusoidal_positions(config.max_seq_len, config.hidden_size).to(dtype)
    found: Tensors = {}
    written = {SINES}
    for module in map_modules(family, config):
        for hf_name, names in module.tensor_names():
            written.update(names)
            whole = torch.cat([part_of(state, name, module.expert) for name in names])
            whole = whole if module.scale == 1 else whole * module.scale
            found[hf_name] = whole.T if module.kind.transposed and whole.ndim == 2 else whole
    missing = [name for name, tensor in state.items() if name not in written and bool(tensor.any())]
    if missing:
        raise UsageError(
            f"{family.architecture} has no place for {missing[0]} (and {len(missing) - 1} more)",
            "it holds models without such biases: train with --set model.bias=false",
        )
    return {name: tensor.contiguous() for name, tensor in found.items()}


def part_of(state: Tensors, name: str, expert: int | None) -> Tensor:
    """Return a tensor of gptctl's model, or the part of one expert. A bias that the model does not have is zeros."""
    if name not in state:
        weight = state[name.removesuffix("bias") + "weight"]
        return weight.new_zeros(weight.size(0))
    return state[name] if expert is None else state[name][expert]


def from_hf_tensors(stored: Tensors, family: Family, config: ModelConfig) -> Tensors:
    """Return tensors under our names, in float32, without the padding of the vocabulary.

    Raises DataError (3) if a tensor is missing, unknown or has another shape, and ChangedError if the tensors are not
    those that the config implies.
    """
    return TensorImport(stored, family, config).run()


class TensorImport:
    """The import of one model's tensors."""

    def __init__(self, stored: Tensors, family: Family, config: ModelConfig) -> None:
        self.stored = add_prefix(stored, family)
        self.family = family
        self.config = config
        with meta_init():
            state = GPT(config).state_dict()
        self.wanted = {name: unpad_vocab(name, tensor, config) for name, tensor in state.items()}
        self.found: Tensors = {}

    def run(self) -> Tensors:
        """Import all tensors."""
        # Scaled copies come last: they are only compared if the tensor itself is there, too.
        for module in sorted(map_modules(self.family, self.config), key=lambda module: module.scale != 1):
            for hf_name, names in module.tensor_names():
                optional = hf_name.endswith(".bias") and module.kind.bias == "as_config"
                if hf_name not in self.stored and optional:
                    continue
                tensor = self.take(hf_name)
                tensor = tensor.T if module.kind.transposed and tensor.ndim == 2 else tensor
                self.split(tensor, hf_name, names, module)
        unknown = [name for name in self.stored if not name.endswith(NOT_PARAMETERS) and name != "lm_head.weight"]
        if unknown:
            raise DataError(
                f"a {self.family.architecture} has no tensor {unknown[0]}", "check that config.json is the model's"
            )
        for name in self.wanted.keys() - self.found.keys():  # biases that the file does not have
            self.found[name] = torch.zeros(self.wanted[name].shape)
        return {name: tensor.float().contiguous() for name, tensor in self.found.items()}

    def take(self, hf_name: str) -> Tensor:
        """Remove and return a stored tensor. Raises DataError (3) if it is missing."""
        if hf_name not in self.stored:
            raise DataError(f"the weights have no tensor {hf_name}", "check that config.json is the model's")
        return self.stored.pop(hf_name)

    def split(self, tensor: Tensor, hf_name: str, names: tuple[str, ...], module: MappedModule) -> None:
        """Split one stored tensor into ours."""
        sizes = [self.output_size(name, module) for name in names]
        if tensor.size(0) != sum(sizes):
            raise DataError(f"{hf_name} has {tensor.size(0)} rows, not {sum(sizes)}", "check config.json")
        for name, part in zip(names, torch.split(tensor, sizes), strict=True):
            if name not in self.wanted:
                self.check_implied(hf_name, name, part)
            elif module.expert is not None:
                empty = torch.empty(self.wanted[name].shape, dtype=part.dtype)
                stacked = self.found.setdefault(name, empty)
                check_shape(hf_name, part, stacked[module.expert])
                stacked[module.expert] = part
            elif name in self.found:
                expected = self.found[name] if module.scale == 1 else self.found[name] * module.scale
                if not torch.equal(expected, part):
                    raise ChangedError(f"{hf_name} is not what the config's {name} is")
            else:
                check_shape(hf_name, part, self.wanted[name])
                self.found[name] = part if module.scale == 1 else part / module.scale

    def check_implied(self, hf_name: str, name: str, part: Tensor) -> None:
        """Raise ChangedError if a tensor that our model does not have is not what it implies."""
        if name == SINES:
            implied = sinusoidal_positions(self.config.max_seq_len, self.config.hidden_size).to(part)
        else:
            implied = torch.zeros_like(part)
        if part.shape != implied.shape or not torch.equal(part, implied):
            raise ChangedError(f"{hf_name} is not what the config's {name} is")

    def output_size(self, name: str, module: MappedModule) -> int:
        """Return how many rows of a stored tensor belong to one tensor of gptctl's model."""
        if name == SINES:
            return self.config.max_seq_len
        size = self.wanted[name if name in self.wanted else name.removesuffix("bias") + "weight"].shape
        return size[0] if module.expert is None else size[1]


def add_prefix(stored: Tensors, family: Family) -> Tensors:
    """Return a copy in which all names have the prefix of the family: files of models without a head do not."""
    if any(name.startswith(family.prefix) for name in stored):
        return dict(stored)
    return {name if name.startswith("lm_head.") else family.prefix + name: tensor for name, tensor in stored.items()}


def check_shape(name: str, tensor: Tensor, wanted: Tensor) -> None:
    """Raise DataError (3) for a tensor of another shape."""
    if tensor.shape != wanted.shape:
        raise DataError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(wanted.shape)}", "check config.json")
