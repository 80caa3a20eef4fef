"""A model's tensors under the names of transformers, in both directions, by the tables of families.

A tensor that only one side has must have the value that it implies on the other: zero for a bias, the sinusoidal table
for positions. So nothing is lost, and what is exported in float32 is imported bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from gptctl.core.errors import DataError, UsageError
from gptctl.model.config import ModelConfig
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.gpt import GPT, sinusoidal_positions
from gptctl.model.hf.config_export import folds_embedding_scale, ties_head
from gptctl.model.hf.family_spec import Family, ModuleMap
from gptctl.model.hf.not_parameters import NOT_PARAMETERS, mismatch_reason
from gptctl.model.meta_init import meta_init
from gptctl.model.vocab_padding import unpad_lazily, unpad_vocab

SINES = "sines"  # our sinusoidal table, which is never saved

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
    order: Tensor | None = None  # of its rows, as indices into the concatenated rows of `names`

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
        "embedding": math.sqrt(config.hidden_size) if folds_embedding_scale(config, family) else 1.0,
        "query": config.resolved_head_dim**-0.5,
    }
    found = []
    for kind in family.outer_modules:
        names = (SINES,) if kind.names == ("positions",) and config.positions == "sinusoidal" else kind.names
        scale = scales.get(kind.scaled, 1.0)
        found.append(MappedModule(kind.hf_name, names, kind, family.has_bias(config, kind.names), scale=scale))
    for layer in range(config.layers):
        prefix = family.layer_prefix.format(layer=layer)
        for kind in (*family.block_modules, *(family.modules(config) if family.modules else ())):
            names = tuple(f"blocks.{layer}.{name}" for name in kind.names)
            if not config.is_gated:  # relu(z) * z = relu(z)^2
                names = tuple(name.replace("feed_forward.gate", "feed_forward.up") for name in names)
            has_bias = family.has_bias(config, kind.names)
            scale = scales.get(kind.scaled, 1.0)
            order = order_by_kv_head(config) if kind.by_kv_head else None
            experts = range(config.experts) if "{expert}" in kind.hf_name else (None,)
            found += [
                MappedModule(
                    prefix + kind.hf_name.format(expert=expert), names, kind, has_bias, layer, expert, scale, order
                )
                for expert in experts
            ]
    if not ties_head(config, family):
        head = "embedding" if config.tie_embeddings else "head"
        name = family.head_name
        found.append(MappedModule(name, (head,), ModuleMap(name, (head,)), has_bias=False))
    return found


def order_by_kv_head(config: ModelConfig) -> Tensor:
    """Return the order of the rows of queries, keys and values where those of each key-value head are together."""
    heads, keys, size = config.heads, config.resolved_kv_heads, config.resolved_head_dim
    rows = torch.split(torch.arange((heads + 2 * keys) * size), [heads * size, keys * size, keys * size])
    return torch.cat([part.view(keys, -1, size) for part in rows], dim=1).flatten()


def lazy_hf_tensors(
    weights: Mapping[str, LazyTensor], config: ModelConfig, family: Family, dtype: torch.dtype = torch.float32
) -> dict[str, LazyTensor]:
    """Return a model's tensors under the names of a family, without the padding of the vocabulary.

    Each is computed when it is read. Raises UsageError (2) if the class does not have biases that are not zero.
    """
    state = {name: unpad_lazily(name, tensor, config).converted(dtype) for name, tensor in weights.items()}
    positions = torch.Size((config.max_seq_len, config.hidden_size))
    state[SINES] = LazyTensor(positions, dtype, lambda: sinusoidal_positions(*positions).to(dtype))
    found: dict[str, LazyTensor] = {}
    written = {SINES}
    for module in map_modules(family, config):
        for hf_name, names in module.tensor_names():
            written.update(names)
            found[hf_name] = join(module, [part_of(state, name, module.expert) for name in names])
    missing = [name for name, tensor in state.items() if name not in written and bool(tensor.read().any())]
    if missing:
        raise UsageError(
            f"{family.architecture} has no place for {missing[0]} (and {len(missing) - 1} more)",
            "it holds models without such biases: train with --set model.bias=false",
        )
    return found


def join(module: MappedModule, parts: list[LazyTensor]) -> LazyTensor:
    """Return the tensor of a module of transformers that joins some of gptctl's."""
    unused = module.kind.unused_rows
    shape = torch.Size((unused + sum(part.shape[0] for part in parts), *parts[0].shape[1:]))
    is_transposed = module.kind.transposed and len(shape) == 2

    def read() -> Tensor:
        whole = torch.cat([part.read() for part in parts]) if len(parts) > 1 else parts[0].read()
        whole = whole if module.scale == 1 else whole * module.scale
        whole = whole if module.order is None else whole[module.order]
        whole = torch.cat((whole.new_zeros(unused, *whole.shape[1:]), whole)) if unused else whole
        return (whole.T if is_transposed else whole).contiguous()

    return LazyTensor(torch.Size(reversed(shape)) if is_transposed else shape, parts[0].dtype, read)


def part_of(state: Mapping[str, LazyTensor], name: str, expert: int | None) -> LazyTensor:
    """Return a tensor of gptctl's model, or the part of one expert. A bias that the model does not have is zeros."""
    if name not in state:
        weight = state[name.removesuffix("bias") + "weight"]
        return LazyTensor(weight.shape[:1], weight.dtype, lambda: torch.zeros(weight.shape[0], dtype=weight.dtype))
    tensor = state[name]
    return tensor if expert is None else tensor.part(expert)


def import_hf_tensors(stored: Mapping[str, LazyTensor], family: Family, config: ModelConfig) -> dict[str, LazyTensor]:
    """Return tensors under our names, without the padding of the vocabulary, in the stored type.

    Each is computed when it is read. Raises DataError (3) if a tensor is missing, unknown or has another shape, and
    ChangedError if the tensors are not those that the config implies.
    """
    return TensorImport(stored, family, config).run()


class TensorImport:
    """The import of one model's tensors."""

    def __init__(self, stored: Mapping[str, LazyTensor], family: Family, config: ModelConfig) -> None:
        self.stored = add_prefix(stored, family)
        self.family = family
        self.config = config
        with meta_init():
            state = GPT(config).state_dict()
        self.wanted = {name: unpad_vocab(name, tensor, config).shape for name, tensor in state.items()}
        self.found: dict[str, LazyTensor] = {}
        self.experts: dict[str, list[LazyTensor]] = {}

    def run(self) -> dict[str, LazyTensor]:
        """Import all tensors."""
        # Scaled copies come last: they are only compared if the tensor itself is there, too.
        for module in sorted(map_modules(self.family, self.config), key=lambda module: module.scale != 1):
            for hf_name, names in module.tensor_names():
                if hf_name not in self.stored and hf_name.endswith(".bias"):
                    continue
                tensor = self.take(hf_name)
                if module.kind.transposed and len(tensor.shape) == 2:
                    tensor = tensor.map(lambda whole: whole.T, torch.Size(reversed(tensor.shape)))
                if module.order is not None:
                    if tensor.shape[:1] != module.order.shape:
                        raise DataError(
                            f"{hf_name} has {tensor.shape[0]} rows, not {len(module.order)}", "check config.json"
                        )
                    tensor = tensor.map(partial(reordered, order=module.order.argsort()))
                if module.kind.unused_rows:
                    tensor = rows_of(tensor, module.kind.unused_rows, tensor.shape[0])
                self.split(tensor, hf_name, names, module)
        self.check_rest()
        for name, matrices in self.experts.items():
            self.found[name] = LazyTensor.stack(matrices)
        for name in self.wanted.keys() - self.found.keys():  # biases that the file does not have
            self.found[name] = LazyTensor(self.wanted[name], torch.float32, partial(torch.zeros, self.wanted[name]))
        return self.found

    def check_rest(self) -> None:
        """Raise an error for stored tensors that were not taken, unless gptctl computes the same in their place."""
        for name, tensor in self.stored.items():
            if name == f"{self.family.head_name}.weight":  # that of a tied head, which open_transformers compared
                continue
            if not name.endswith(NOT_PARAMETERS):
                raise DataError(
                    f"a {self.family.architecture} has no tensor {name}", "check that config.json is the model's"
                )
            if reason := mismatch_reason(name, tensor, self.config):
                raise ChangedError(reason)

    def take(self, hf_name: str) -> LazyTensor:
        """Remove and return a stored tensor. Raises DataError (3) if it is missing."""
        if hf_name not in self.stored:
            raise DataError(f"the weights have no tensor {hf_name}", "check that config.json is the model's")
        return self.stored.pop(hf_name)

    def split(self, tensor: LazyTensor, hf_name: str, names: tuple[str, ...], module: MappedModule) -> None:
        """Split one stored tensor into ours."""
        sizes = [self.output_size(name, module) for name in names]
        if tensor.shape[:1] != (sum(sizes),):
            rows = tensor.shape[0] if tensor.shape else 0
            raise DataError(f"{hf_name} has {rows} rows, not {sum(sizes)}", "check config.json")
        for name, start, end in zip(names, accumulate(sizes, initial=0), accumulate(sizes), strict=False):
            part = rows_of(tensor, start, end)
            if name not in self.wanted:
                self.check_implied(hf_name, name, part)
            elif module.expert is not None:
                check_shape(hf_name, part, self.wanted[name][1:])
                self.experts.setdefault(name, []).append(part)
            elif name in self.found:
                ours = self.found[name].read()
                if not torch.equal(ours if module.scale == 1 else ours * module.scale, part.read()):
                    raise ChangedError(f"{hf_name} is not what the config's {name} is")
            else:
                check_shape(hf_name, part, self.wanted[name])
                self.found[name] = part if module.scale == 1 else part.map(partial(divide, divisor=module.scale))

    def check_implied(self, hf_name: str, name: str, part: LazyTensor) -> None:
        """Raise ChangedError if a tensor that our model does not have is not what it implies."""
        stored = part.read()
        if name == SINES:
            implied = sinusoidal_positions(self.config.max_seq_len, self.config.hidden_size).to(stored)
        else:
            implied = torch.zeros_like(stored)
        if stored.shape != implied.shape or not torch.equal(stored, implied):
            raise ChangedError(f"{hf_name} is not what the config's {name} is")

    def output_size(self, name: str, module: MappedModule) -> int:
        """Return how many rows of a stored tensor belong to one tensor of gptctl's model."""
        if name == SINES:
            return self.config.max_seq_len
        shape = self.wanted[name if name in self.wanted else name.removesuffix("bias") + "weight"]
        return shape[0] if module.expert is None else shape[1]


def rows_of(tensor: LazyTensor, start: int, end: int) -> LazyTensor:
    """Return some rows of a tensor."""
    return tensor.map(lambda whole: whole[start:end], torch.Size((end - start, *tensor.shape[1:])))


def reordered(tensor: Tensor, order: Tensor) -> Tensor:
    """Return the rows of a tensor in an order."""
    return tensor[order]


def divide(tensor: Tensor, divisor: float) -> Tensor:
    """Return a tensor divided by a number."""
    return tensor / divisor


def add_prefix(stored: Mapping[str, LazyTensor], family: Family) -> dict[str, LazyTensor]:
    """Return a copy in which all names have the prefix of the family: files of models without a head do not."""
    if any(name.startswith(family.prefix) for name in stored):
        return dict(stored)
    return {
        name if name.startswith(f"{family.head_name}.") else family.prefix + name: tensor
        for name, tensor in stored.items()
    }


def check_shape(name: str, tensor: LazyTensor, wanted: torch.Size) -> None:
    """Raise DataError (3) for a tensor of another shape."""
    if tensor.shape != wanted:
        raise DataError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(wanted)}", "check config.json")
