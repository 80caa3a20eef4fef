"""One process on one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gptctl.core.context import Context
from gptctl.core.rundir import Run
from gptctl.train import device
from gptctl.train.job import Model, TrainJob

Fit = Callable[[TrainJob, Run, Context, Any], dict[str, Any]]


def launch(fit: Fit, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call `fit` with an engine, here."""
    return fit(job, run, context, Single(device.pick(job.device)))


class Single:
    """Every reduction over one rank is the value itself."""

    rank = 0
    ranks = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def reduce_gradients(self, model: Model) -> None:
        """Add gradients up over all ranks."""

    def sum(self, values: Tensor) -> Tensor:
        """Add float64 values up over all ranks."""
        return values
