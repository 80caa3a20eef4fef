"""One process on one device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gptctl.core.context import Context
from gptctl.core.rundir import Run
from gptctl.model import device
from gptctl.train.distributed.collectives import square_sum
from gptctl.train.job import Model, TrainJob, blocks

Fit = Callable[[TrainJob, Run, Context, Any], dict[str, Any]]
T = TypeVar("T")


def launch(fit: Fit, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call `fit` with an engine, here."""
    return fit(job, run, context, Single(device.select_device(job.device)))


class Single:
    """Every reduction over one rank is the value itself."""

    rank = data_rank = 0
    ranks = data_ranks = local_ranks = 1
    whole = True
    quiet = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def adopt(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Put a model on the device; give its parameters by name."""
        model.to(self.device)
        if compiled:
            device.compile_modules(blocks(model))
        return dict(model.named_parameters())

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add gradients up over all ranks."""

    def square_sum(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return what this rank adds to the squared norm of the gradient."""
        return square_sum([parameter.grad for parameter in parameters if parameter.grad is not None])

    def sum(self, values: Tensor) -> Tensor:
        """Add float64 values up over all ranks."""
        return values

    def agree(self, value: T) -> T:
        """Give every rank what the first one holds."""
        return value

    def at(self, step: int, phase: str) -> None:
        """Show that this rank goes on, and where."""

    def laid_out(self, parameter: nn.Parameter, values: Tensor) -> Tensor:
        """Return values of one parameter as all ranks hold them together."""
        return values

    def whole_shape(self, parameter: nn.Parameter) -> torch.Size:
        """Return the shape of what all ranks hold together."""
        return parameter.shape

    def on_matrices(
        self, function: Callable[[Tensor], Tensor], pieces: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function of stacked matrices to matrices of one shape."""
        return list(function(torch.stack(list(pieces))))
