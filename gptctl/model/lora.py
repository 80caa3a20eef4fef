"""Low-rank adaptation of linear layers: LoRA and DoRA.

LoRA freezes a matrix W and learns B and A in W + (alpha / rank) B A (Hu et al. 2021, "LoRA", 4.1). DoRA normalizes each
row of that and scales it by a learned magnitude (Liu et al. 2024, "DoRA", 4.1).
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.core.errors import UsageError
from gptctl.core.seeds import derive
from gptctl.model.lora_config import LoraConfig
from gptctl.model.meta_init import meta_init


class LoraLinear(nn.Linear):
    """A linear layer with a frozen weight (out, in) and a low-rank update. Its own parameters keep their names."""

    def __init__(self, inner: nn.Linear, lora: LoraConfig, generator: torch.Generator) -> None:
        super().__init__(inner.in_features, inner.out_features, inner.bias is not None, device="meta")
        self.weight, self.bias = inner.weight, inner.bias
        self.scale, self.dropout = lora.scale, nn.Dropout(lora.dropout)
        bound = 1 / math.sqrt(inner.in_features)  # as in PEFT; B = 0, so the layer first computes what it did
        down = torch.empty(lora.rank, inner.in_features, device="cpu").uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(down.to(inner.weight.device))
        self.lora_b = nn.Parameter(inner.weight.new_zeros(inner.out_features, lora.rank))
        self.magnitude = nn.Parameter(inner.weight.detach().norm(dim=1)) if lora.dora else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        added = F.linear(F.linear(self.dropout(x), self.lora_a), self.lora_b) * self.scale
        if self.magnitude is None:
            return F.linear(x, self.weight, self.bias) + added
        # The norm is a constant in the gradient (DoRA, 4.3), which saves memory.
        norm = (self.weight.detach() + self.scale * (self.lora_b.detach() @ self.lora_a.detach())).norm(dim=1)
        y: Tensor = (F.linear(x, self.weight) + added) * (self.magnitude / norm)
        return y if self.bias is None else y + self.bias

    def merged(self) -> Tensor:
        """Return the weight (out, in) with the update merged, computed in double precision."""
        weight = self.weight.double() + self.scale * (self.lora_b.double() @ self.lora_a.double())
        if self.magnitude is not None:
            weight = weight * (self.magnitude.double() / weight.norm(dim=1))[:, None]
        return weight.type_as(self.weight)


def apply_lora(model: nn.Module, lora: LoraConfig, seed: int) -> None:
    """Freeze a model and replace the linear layers that `lora` selects by LoraLinear.

    Experts are stacked tensors, not linear layers, and are not adapted. Neither is their router, which computes in
    float32. Raises UsageError (2) if no layer is selected.
    """
    generator = torch.Generator().manual_seed(derive(seed, "lora"))
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


def plain_name(name: str) -> str:
    """Return a module's name without the prefix of the GPT in a classifier."""
    return name.removeprefix("gpt.")


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers of a model with their names."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Replace the adapted layers by plain linear layers with the updates merged, in place."""
    for name, module in list(lora_layers(model)):
        with meta_init():
            linear = nn.Linear(module.in_features, module.out_features, module.bias is not None)
        linear.weight, linear.bias = nn.Parameter(module.merged()), module.bias
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, linear)
