"""Data parallelism: every rank holds the model and takes its share of each batch.

Gradients are summed in buckets of fixed size and order after the backward pass. torch's DistributedDataParallel lays
its buckets out anew after the first step it sees, so with three or more ranks a resumed run would add in another order
than an uninterrupted one and not be bit-equal to it; it also averages over ranks, where we divide by the targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gptctl.core.context import Context
from gptctl.core.rundir import Run
from gptctl.model import device
from gptctl.train.distributed.collectives import OnMatrices, add_up, share_out, square_sum
from gptctl.train.distributed.launch import Fit
from gptctl.train.distributed.launch import launch as launch_ranks
from gptctl.train.distributed.ranks import Ranks
from gptctl.train.job import Model, TrainJob, blocks
from gptctl.train.monitor.heartbeat import Pulse


def launch(fit: Fit, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call `fit` with an engine in each rank."""
    return launch_ranks(make, fit, job, run, context)


def make(job: TrainJob, device: torch.device, pulse: Pulse) -> Replicated:
    """Make the engine of one rank."""
    return Replicated(device, pulse)


class Replicated(Ranks):
    """A rank that holds all of the model."""

    whole = True

    def adopt(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Put a model on the device; give its parameters by name."""
        model.to(self.device)
        if compiled:
            device.compile_modules(blocks(model))
        return dict(model.named_parameters())

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add gradients up over all ranks, in place."""
        add_up([parameter.grad for parameter in parameters.values() if parameter.grad is not None])

    def square_sum(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return what this rank adds to the squared norm of the gradient: an equal part, for all hold the same."""
        return square_sum([parameter.grad for parameter in parameters if parameter.grad is not None]) / self.ranks

    def laid_out(self, parameter: nn.Parameter, values: Tensor) -> Tensor:
        """Return values of one parameter as all ranks hold them together."""
        return values

    def whole_shape(self, parameter: nn.Parameter) -> torch.Size:
        """Return the shape of what all ranks hold together."""
        return parameter.shape

    def on_matrices(
        self, function: OnMatrices, pieces: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function to matrices of one shape, of which each rank does its share."""
        return share_out(function, pieces)
