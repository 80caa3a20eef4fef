"""A model's tensors under transformers' names, there and back, by the tables of families.

A tensor that one side has and the other has not must be what it would be there: zero for a bias, the sinusoidal table
for positions. So nothing is lost either way, and what goes out in float32 comes back bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gptctl.core.errors import DataError, UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT, sinusoidal_positions
from gptctl.model.hf.config import ties
from gptctl.model.hf.family import Family, Module
from gptctl.model.meta_init import meta_init
from gptctl.model.vocab_padding import unpad_vocab

SINES = "sines"  # a table of ours that is never saved
# What older files hold besides parameters: masks, and the frequencies of rotary positions.
TABLES = (".attn.bias", ".masked_bias", ".attention.bias", ".inv_freq")

Tensors = dict[str, Tensor]


class ChangedError(Exception):
    """The tensors are not those that a config of ours stands for."""


@dataclass(frozen=True)
class Placed:
    """A module of a family at its place in a model: the names of one of theirs, and of ours that it holds."""

    theirs: str
    ours: tuple[str, ...]
    kind: Module
    bias: bool  # whether theirs has one
    layer: int | None = None
    expert: int | None = None
    scale: float = 1.0

    def names(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Return their name and ours of each tensor."""
        if self.expert is not None or self.ours == (SINES,):
            yield f"{self.theirs}.weight", self.ours
        else:
            yield f"{self.theirs}.weight", tuple(f"{name}.weight" for name in self.ours)
            if self.bias:
                yield f"{self.theirs}.bias", tuple(f"{name}.bias" for name in self.ours)


def modules(family: Family, config: ModelConfig) -> list[Placed]:
    """List the modules of a model in a family's words."""
    scales = {
        "embedding": math.sqrt(config.hidden_size) if config.embedding_scale else 1.0,
        "query": config.head_dim**-0.5,
    }
    found = []
    for kind in family.around:
        ours = (SINES,) if kind.ours == ("positions",) and config.positions == "sinusoidal" else kind.ours
        bias = kind.bias == "always"
        found.append(Placed(kind.theirs, ours, kind, bias, scale=scales.get(kind.scaled, 1.0)))
    for layer in range(config.layers):
        prefix = family.layer.format(layer=layer)
        for kind in family.block:
            ours = tuple(f"blocks.{layer}.{name}" for name in kind.ours)
            if config.activation != "swiglu":  # relu(z) * z = relu(z)^2
                ours = tuple(name.replace("feed_forward.gate", "feed_forward.up") for name in ours)
            bias = kind.bias == "always" or (kind.bias == "ours" and config.bias)
            scale = scales.get(kind.scaled, 1.0)
            experts = range(config.experts) if "{expert}" in kind.theirs else (None,)
            found += [
                Placed(prefix + kind.theirs.format(expert=expert), ours, kind, bias, layer, expert, scale)
                for expert in experts
            ]
    if not ties(config):
        head = "embedding" if config.tie_embeddings else "head"
        found.append(Placed("lm_head", (head,), Module("lm_head", (head,)), bias=False))
    return found


def to_theirs(weights: Tensors, config: ModelConfig, family: Family, dtype: torch.dtype = torch.float32) -> Tensors:
    """Return a model's state_dict under a family's names, without the vocabulary's padding.

    Raises UsageError (2) where the family has no place for biases that are not zero.
    """
    state = {name: unpad_vocab(name, tensor.detach(), config).to(dtype) for name, tensor in weights.items()}
    state[SINES] = sinusoidal_positions(config.max_seq_len, config.hidden_size).to(dtype)
    found: Tensors = {}
    held = {SINES}
    for module in modules(family, config):
        for theirs, ours in module.names():
            held.update(ours)
            whole = torch.cat([piece(state, name, module.expert) for name in ours])
            whole = whole if module.scale == 1 else whole * module.scale
            found[theirs] = whole.T if module.kind.transposed and whole.ndim == 2 else whole
    homeless = [name for name, tensor in state.items() if name not in held and bool(tensor.any())]
    if homeless:
        raise UsageError(
            f"{family.architecture} has no place for {homeless[0]} (and {len(homeless) - 1} more)",
            "it holds models without such biases: train with --set model.bias=false",
        )
    return {name: tensor.contiguous() for name, tensor in found.items()}


def piece(state: Tensors, name: str, expert: int | None) -> Tensor:
    """Return a tensor of ours, or one expert's part of it; zeros for a bias that we do not have."""
    if name not in state:
        weight = state[name.removesuffix("bias") + "weight"]
        return weight.new_zeros(weight.size(0))
    return state[name] if expert is None else state[name][expert]


def to_ours(stored: Tensors, family: Family, config: ModelConfig) -> Tensors:
    """Return what is stored under a family's names under ours, in float32, without the vocabulary's padding.

    Raises DataError (3) where a tensor is missing, unknown or of another shape; ChangedError where the tensors are not
    what the config stands for.
    """
    stored = prefixed(stored, family)
    with meta_init():
        wanted = {name: unpad_vocab(name, tensor, config) for name, tensor in GPT(config).state_dict().items()}
    found: Tensors = {}
    # A scaled copy is only compared, where the tensor itself is there too.
    for module in sorted(modules(family, config), key=lambda module: module.scale != 1):
        for theirs, ours in module.names():
            if theirs not in stored and theirs.endswith(".bias") and module.kind.bias == "ours":
                continue
            tensor = take(stored, theirs)
            tensor = tensor.T if module.kind.transposed and tensor.ndim == 2 else tensor
            put(found, tensor, theirs, ours, module, wanted, config)
    unknown = [name for name in stored if not name.endswith(TABLES) and name != "lm_head.weight"]
    if unknown:
        raise DataError(f"a {family.architecture} has no tensor {unknown[0]}", "check that config.json is the model's")
    for name in wanted.keys() - found.keys():  # biases of which the file has none
        found[name] = torch.zeros(wanted[name].shape)
    return {name: tensor.float().contiguous() for name, tensor in found.items()}


def prefixed(stored: Tensors, family: Family) -> Tensors:
    """Return a copy in which all names begin as the family's do: files of bare models lack that."""
    if any(name.startswith(family.prefix) for name in stored):
        return dict(stored)
    return {name if name.startswith("lm_head.") else family.prefix + name: tensor for name, tensor in stored.items()}


def take(stored: Tensors, name: str) -> Tensor:
    """Remove a tensor and give it. Raises DataError (3) if it is missing."""
    if name not in stored:
        raise DataError(f"the weights have no tensor {name}", "check that config.json is the model's")
    return stored.pop(name)


def put(
    found: Tensors, tensor: Tensor, theirs: str, ours: Iterable[str], module: Placed, wanted: Tensors,
    config: ModelConfig,
) -> None:  # fmt: skip
    """Cut one of their tensors into ours."""
    sizes = [outputs(name, module, wanted, config) for name in ours]
    if tensor.size(0) != sum(sizes):
        raise DataError(f"{theirs} has {tensor.size(0)} rows, not {sum(sizes)}", "check config.json")
    for name, part in zip(ours, torch.split(tensor, sizes), strict=True):
        if name not in wanted:  # what we do not have
            implied = (
                sinusoidal_positions(config.max_seq_len, config.hidden_size).to(part)
                if name == SINES
                else torch.zeros_like(part)
            )
            if part.shape != implied.shape or not torch.equal(part, implied):
                raise ChangedError(f"{theirs} is not what the config's {name} is")
        elif module.expert is not None:
            stacked = found.setdefault(name, torch.empty(wanted[name].shape, dtype=part.dtype))
            check_shape(theirs, part, stacked[module.expert])
            stacked[module.expert] = part
        elif name in found:
            if not torch.equal(found[name] * module.scale if module.scale != 1 else found[name], part):
                raise ChangedError(f"{theirs} is not what the config's {name} is")
        else:
            check_shape(theirs, part, wanted[name])
            found[name] = part if module.scale == 1 else part / module.scale


def outputs(name: str, module: Placed, wanted: Tensors, config: ModelConfig) -> int:
    """Return how many rows of their tensor one of ours fills."""
    if name == SINES:
        return config.max_seq_len
    size = wanted[name if name in wanted else name.removesuffix("bias") + "weight"].shape
    return size[0] if module.expert is None else size[1]


def check_shape(name: str, tensor: Tensor, wanted: Tensor) -> None:
    """Raise DataError (3) for a tensor of another shape."""
    if tensor.shape != wanted.shape:
        raise DataError(f"{name} is of shape {tuple(tensor.shape)}, not {tuple(wanted.shape)}", "check config.json")
