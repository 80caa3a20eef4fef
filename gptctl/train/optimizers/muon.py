"""Muon for hidden matrices: orthogonalized momentum (Jordan et al. 2024, "Muon"). AdamW for everything else.

The update is that of torch.optim.Muon, which always computes in bfloat16 and matrix by matrix: on a CPU without
bfloat16 instructions its step took 8 s, and this one takes 0.03 s (0.8 million weights). Here the matrices of one shape
are stacked, bfloat16 is used only where it is fast, and ranks share the matrices out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gptctl.train.optimizers import adamw
from gptctl.train.recipe import Recipe
from gptctl.train.strategies import Strategy

# Jordan et al.: a quintic with a steep slope at zero raises small singular values fast. Five iterations bring all of
# them to between about 0.7 and 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
STACKED_NUMBERS = 2**27  # of matrices that are orthogonalized together: 512 MiB, beyond which a GPU gains nothing


def build(
    parameters: Mapping[str, nn.Parameter], recipe: Recipe, strategy: Strategy, precision: str = "fp32"
) -> list[Optimizer]:
    """Return Muon for the blocks' matrices, and AdamW for embeddings, head, norms, biases and routers."""
    named = [(name, parameter) for name, parameter in parameters.items() if parameter.requires_grad]
    hidden = {name: parameter for name, parameter in named if is_hidden_matrix(name, parameter)}
    scales = list(adamw.lr_scales(list(hidden), recipe.layer_decay).values())
    rest = [(name, parameter) for name, parameter in named if not is_hidden_matrix(name, parameter)]
    optimizers = [adamw.build_adamw(rest, recipe)] if rest else []
    return [*optimizers, Muon(list(hidden.values()), recipe, strategy, precision, scales)] if hidden else optimizers


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Return whether a parameter is a matrix of a block, or a stack of matrices (of the experts).

    A router is the output head of a small classifier rather than a hidden matrix: its rows are one expert each, and an
    orthogonal update would move those of rarely chosen experts as far as the others.
    """
    return parameter.ndim >= 2 and "blocks." in name and not name.endswith(("router.weight", "shared_gate.weight"))


class Muon(Optimizer):
    """Updates by Nesterov momentum, made nearly orthogonal, with decoupled weight decay."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        recipe: Recipe,
        strategy: Strategy,
        precision: str = "fp32",
        scales: Sequence[float] = (),
    ) -> None:
        self.strategy = strategy
        self.state_dtype = torch.bfloat16 if recipe.optimizer_state_dtype == "bf16" else torch.float32
        self.orthogonalize = partial(orthogonalize, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        defaults = {"lr": recipe.matrix_lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
        groups: dict[float, list[nn.Parameter]] = defaultdict(list)
        for parameter, scale in zip(parameters, scales or [1.0] * len(parameters), strict=True):
            groups[scale].append(parameter)
        super().__init__(
            [{"params": group, "peak_lr": recipe.matrix_lr * scale} for scale, group in groups.items()], defaults
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            same_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same_shape[tuple(self.strategy.full_shape(parameter))].append(parameter)
            for shape, parameters in same_shape.items():
                for stack in stacks(parameters, math.prod(shape), self.strategy.dims.world_size):
                    self.update_stack(stack, shape, group)

    def update_stack(self, parameters: Sequence[nn.Parameter], shape: Sequence[int], group: dict[str, Any]) -> None:
        """Update matrices of one full shape together."""
        directions = [self.nesterov(parameter, group) for parameter in parameters]
        updates = self.strategy.map_matrices(self.orthogonalize, directions, parameters)
        lr = group["lr"] * max(1.0, shape[-2] / shape[-1]) ** 0.5  # the same change of outputs for all shapes
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-lr)

    def nesterov(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """Update the running mean of the gradient and return the Nesterov direction.

        Of a mean in bfloat16, a step changes much more than rounding does.
        """
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter, dtype=self.state_dtype)
        mean = state["momentum"].float().lerp_(parameter.grad, 1 - group["momentum"])
        state["momentum"].copy_(mean)
        return torch.lerp(parameter.grad, mean, group["momentum"])


def stacks(parameters: Sequence[nn.Parameter], numbers: int, ranks: int) -> Iterator[Sequence[nn.Parameter]]:
    """Yield parameters of so many numbers each in stacks of at most STACKED_NUMBERS, but of one for each rank at least.

    A step needs five times the memory of a stack.
    """
    size = max(1, STACKED_NUMBERS // (numbers * ranks)) * ranks
    for first in range(0, len(parameters), size):
        yield parameters[first : first + size]


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return matrices (..., rows, columns) with singular values near 1, by Newton-Schulz iteration."""
    a, b, c = QUINTIC
    x = matrices.flatten(0, -3).to(dtype)
    tall = x.size(1) > x.size(2)
    if tall:  # the smaller Gram matrix is the cheaper one
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).type_as(matrices).view_as(matrices)
