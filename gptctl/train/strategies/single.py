"""Train in one process on one device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gptctl.core.context import Context
from gptctl.core.errors import memory_hint
from gptctl.core.run_folder import Run
from gptctl.model import device
from gptctl.train.distributed.collectives import MatrixFunction, squared_norm
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.distributed.replicated_parameters import ReplicatedParameters
from gptctl.train.job import TrainJob
from gptctl.train.strategies import MEMORY_HINT, RankFunction

T = TypeVar("T")


def launch(train_rank: RankFunction, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call train_rank with the strategy in this process."""
    with memory_hint(MEMORY_HINT):
        return train_rank(job, run, context, SingleDevice(device.select_device(job.device)))


class SingleDevice(ReplicatedParameters):
    """The only rank: every reduction is the value itself."""

    dims = ParallelDims()
    rank = dp_rank = 0
    local_world_size = 1
    checkpoint_group = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Leave the gradients as they are."""

    def squared_grad_norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return the squared norm of the gradient."""
        return squared_norm([parameter.grad for parameter in parameters if parameter.grad is not None])

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the values on the CPU."""
        return values.cpu()

    def broadcast_object(self, value: T) -> T:
        """Return the value."""
        return value

    def gather_objects(self, value: T) -> list[T]:
        """Return the value."""
        return [value]

    def heartbeat(self, step: int, phase: str) -> None:
        """Do nothing: no launcher watches this process."""

    def busy(self, phase: str) -> AbstractContextManager[None]:
        """Do nothing: no launcher watches this process."""
        return nullcontext()

    def map_matrices(
        self, function: MatrixFunction, shards: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function of stacked matrices to matrices of one shape."""
        return list(function(torch.stack(list(shards))))
