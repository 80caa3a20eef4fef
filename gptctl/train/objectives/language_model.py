"""Predict the next token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptctl.model.gpt import loss_sum
from gptctl.train.recipe import Recipe

UNIT = "tokens"  # what its targets are


def loss(model: nn.Module, batch: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Give the summed loss and the number of tokens predicted in windows (B, T + 1), where -1 is nothing."""
    return loss_sum(model(batch[:, :-1].clamp(min=0)), batch[:, 1:], smoothing=recipe.label_smoothing)


def blank(model: nn.Module) -> Tensor:
    """Give the tally of nothing."""
    return torch.zeros(2, dtype=torch.float64)


def tally(model: nn.Module, batch: Tensor) -> Tensor:
    """Give what to add up over a whole split: loss and count, (2,) float64 on the CPU."""
    total, count = loss_sum(model(batch[:, :-1].clamp(min=0)), batch[:, 1:])
    return torch.tensor((total.item(), count.item()), dtype=torch.float64)


def metrics(tallied: Tensor) -> dict[str, float]:
    """Turn the sum of all tallies into the mean loss in nats per token."""
    total, count = tallied.tolist()
    return {"loss": total / count}
