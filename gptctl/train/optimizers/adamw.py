"""AdamW: Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from gptctl.train.recipe import Recipe

Named = tuple[str, nn.Parameter]


def build(
    parameters: Mapping[str, nn.Parameter], recipe: Recipe, engine: Any, precision: str = "fp32"
) -> list[Optimizer]:
    """Give the one optimizer of all parameters, or of a rank's parts of them."""
    return [over(parameters.items(), recipe)]


def over(parameters: Iterable[Named], recipe: Recipe) -> Optimizer:
    """Give AdamW over some parameters: matrices decay, norms and biases do not.

    Embeddings decay only if the recipe says so: GPT-1 decays "all non bias or gain weights" (4.1); elsewhere a rare
    token's row would shrink while it is not seen.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            table = name.rpartition(".")[0].endswith(("embedding", "positions"))
            decays = parameter.ndim >= 2 and (recipe.decay_embeddings or not table)
            (decayed if decays else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay, "peak_lr": recipe.lr},
        {"params": others, "weight_decay": 0.0, "peak_lr": recipe.lr},
    ]
    return AdamW([group for group in groups if group["params"]], recipe.lr, recipe.betas, recipe.eps, fused=True)
