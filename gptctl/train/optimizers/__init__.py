"""Optimizers. One file per optimizer; its name is the value of `training.optimizer`.

An optimizer's module follows `OptimizerModule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn
from torch.optim import Optimizer

from gptctl.train.recipe import Recipe
from gptctl.train.strategies import Strategy


class OptimizerModule(Protocol):
    """What the module of an optimizer defines."""

    def build(
        self, parameters: Mapping[str, nn.Parameter], recipe: Recipe, strategy: Strategy, precision: str = "fp32"
    ) -> list[Optimizer]:
        """Return optimizers that together update all parameters that require a gradient.

        `parameters` are this rank's shards by name; an optimizer that needs full matrices calls strategy.map_matrices.
        `precision` ("fp32" or "bf16") is that of an optimizer's own matrix products. Each parameter group has a key
        "peak_lr"; before each step the loop sets its "lr" to a share of that. All state must be tensors, with as many
        elements as the shard or of zero dimensions.
        """
