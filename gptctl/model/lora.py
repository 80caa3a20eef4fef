"""Low-rank adaptation of linear layers: LoRA and DoRA.

LoRA freezes a matrix W and learns B and A in W + (alpha / rank) B A (Hu et al. 2021, "LoRA", 4.1). DoRA normalizes each
row of that and scales it by a learned magnitude (Liu et al. 2024, "DoRA", 4.1).
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.core.errors import UsageError
from gptctl.core.seeds import derive
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.lora_config import LoraConfig
from gptctl.model.meta_init import meta_init
from gptctl.model.tensor_part import TensorPart


class LoraLinear(nn.Linear):
    """A linear layer with a frozen weight (out, in) and a low-rank update. Its own parameters keep their names."""

    def __init__(self, inner: nn.Linear, lora: LoraConfig, generator: torch.Generator) -> None:
        super().__init__(inner.in_features, inner.out_features, inner.bias is not None, device="meta")
        self.weight, self.bias = inner.weight, inner.bias
        self.is_updated = True  # whether the update counts
        self.scale, self.dropout = lora.scale, nn.Dropout(lora.dropout)
        self.lora_a = nn.Parameter(inner.weight.new_empty(lora.rank, inner.in_features))
        self.lora_b = nn.Parameter(inner.weight.new_empty(inner.out_features, lora.rank))
        self.magnitude = nn.Parameter(inner.weight.new_empty(inner.out_features)) if lora.dora else None
        if not inner.weight.is_meta:
            own = {name: TensorPart.whole(parameter.detach()) for name, parameter in self.named_parameters()}
            self.init_update(own, generator)

    def init_update(self, parts: Mapping[str, TensorPart], generator: torch.Generator) -> None:
        """Fill a rank's parts of the update, given by the names of this layer's parameters, once its weight has values.

        B is zero, so that the layer first computes what it did.
        """
        bound = 1 / math.sqrt(self.in_features)  # as in PEFT
        parts["lora_a"].fill(torch.empty(self.lora_a.shape).uniform_(-bound, bound, generator=generator))
        parts["lora_b"].values.zero_()
        if "magnitude" in parts:
            parts["magnitude"].values.copy_(parts["weight"].values.norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        if not self.is_updated:
            return F.linear(x, self.weight, self.bias)
        added = F.linear(F.linear(self.dropout(x), self.lora_a), self.lora_b) * self.scale
        if self.magnitude is None:
            return F.linear(x, self.weight, self.bias) + added
        # The norm is a constant in the gradient (DoRA, 4.3), which saves memory.
        norm = (self.weight.detach() + self.scale * (self.lora_b.detach() @ self.lora_a.detach())).norm(dim=1)
        y: Tensor = (F.linear(x, self.weight) + added) * (self.magnitude / norm)
        return y if self.bias is None else y + self.bias

    def merged(self) -> Tensor:
        """Return the weight (out, in) with the update merged."""
        return merged_weight(self.weight, self.lora_a, self.lora_b, self.scale, self.magnitude)


def merged_weight(weight: Tensor, down: Tensor, up: Tensor, scale: float, magnitude: Tensor | None = None) -> Tensor:
    """Return a weight (out, in) with an update of A (r, in) and B (out, r) merged, computed in double precision."""
    new = weight.to(torch.float64, copy=True).addmm_(up.double(), down.double(), alpha=scale)
    if magnitude is not None:
        new *= (magnitude.double() / new.norm(dim=1))[:, None]
    return new.type_as(weight)


def apply_lora(model: nn.Module, lora: LoraConfig, seed: int) -> None:
    """Freeze a model and replace the linear layers that `lora` selects by LoraLinear.

    Experts are stacked tensors, not linear layers, and are not adapted. Neither is their router, which computes in
    float32. Raises UsageError (2) if no layer is selected.
    """
    generator = update_generator(seed)
    model.requires_grad_(False)
    chosen = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not name.endswith(".router")
        and any(fnmatch.fnmatch(plain_name(name), glob) for glob in lora.targets)
    ]
    if not chosen:
        known = sorted({plain_name(n) for n, m in model.named_modules() if isinstance(m, nn.Linear)})
        raise UsageError(
            f"no linear layer matches adapter.targets; there are: {', '.join(known[:8])} ...", "give glob patterns"
        )
    for name, module in chosen:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoraLinear(module, lora, generator))


def update_generator(seed: int) -> torch.Generator:
    """Return the generator of the random numbers of all updates, layer by layer."""
    return torch.Generator().manual_seed(derive(seed, "lora"))


def init_lora(model: nn.Module, parts: Mapping[str, TensorPart], seed: int) -> None:
    """Fill a rank's parts of the updates of a model that was adapted on the meta device.

    The weights must have values.
    """
    generator = update_generator(seed)
    for name, layer in lora_layers(model):
        layer.init_update({inner: parts[f"{name}.{inner}"] for inner, _ in layer.named_parameters()}, generator)


def plain_name(name: str) -> str:
    """Return a module's name without the prefix of the GPT in a classifier."""
    return name.removeprefix("gpt.")


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers of a model with their names."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


@contextmanager
def without_updates(model: nn.Module) -> Iterator[None]:
    """Let a model compute what its base does, while a block runs."""
    layers = [layer for _, layer in lora_layers(model)]
    for layer in layers:
        layer.is_updated = False
    try:
        yield
    finally:
        for layer in layers:
            layer.is_updated = True


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Replace the adapted layers by plain linear layers with the updates merged, in place."""
    for name in [name for name, _ in lora_layers(model)]:  # a layer's own weight is freed before the next is merged
        module = model.get_submodule(name)
        assert isinstance(module, LoraLinear)
        with meta_init():
            linear = nn.Linear(module.in_features, module.out_features, module.bias is not None)
        linear.weight, linear.bias = nn.Parameter(module.merged()), module.bias
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, linear)


def merge_stored(model: nn.Module, stored: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Return the stored tensors of an adapted model, in which each update is merged when its weight is read.

    Merged weights have float32. The model may be on the meta device.
    """
    merged = dict(stored)
    for name, layer in lora_layers(model):
        down, up = merged.pop(f"{name}.lora_a"), merged.pop(f"{name}.lora_b")
        magnitude = merged.pop(f"{name}.magnitude") if layer.magnitude is not None else None
        weight = stored[f"{name}.weight"].converted(torch.float32)
        merged[f"{name}.weight"] = weight.map(partial(merge_parts, down, up, layer.scale, magnitude))
    return merged


@torch.no_grad()
def merge_parts(down: LazyTensor, up: LazyTensor, scale: float, magnitude: LazyTensor | None, weight: Tensor) -> Tensor:
    """Return a weight (out, in) with an update merged, whose parts may have rows for the padding of the vocabulary."""
    rows = weight.size(0)
    norms = None if magnitude is None else magnitude.read()[:rows]
    return merged_weight(weight, down.read(), up.read()[:rows], scale, norms)
