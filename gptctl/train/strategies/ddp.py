"""Data parallelism: every rank holds the whole model and takes its share of each batch.

Gradients are summed in buckets of fixed size and order after the backward pass. torch's DistributedDataParallel
rebuilds its buckets after the first step, so with three or more ranks a resumed run would add in another order than an
uninterrupted one and would not be bit-equal to it. It also averages over ranks, where this strategy sums and the loop
divides by the number of targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train.distributed.base_strategy import DistributedStrategy
from gptctl.train.distributed.collectives import (
    MatrixFunction,
    all_reduce_in_buckets,
    map_replicated_matrices,
    squared_norm,
)
from gptctl.train.distributed.launch import launch as launch_ranks
from gptctl.train.distributed.replicated_parameters import ReplicatedParameters
from gptctl.train.job import TrainJob
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter
from gptctl.train.strategies import RankFunction


def launch(train_rank: RankFunction, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call train_rank with the strategy in each rank."""
    return launch_ranks(build, train_rank, job, run, context)


def build(job: TrainJob, device: torch.device, heartbeat_writer: HeartbeatWriter) -> DataParallel:
    """Build the strategy of one rank."""
    return DataParallel(device, heartbeat_writer, job.parallel_dims)


class DataParallel(ReplicatedParameters, DistributedStrategy):
    """A rank that holds the whole model."""

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Sum the gradients over all ranks, in place."""
        all_reduce_in_buckets([parameter.grad for parameter in parameters.values() if parameter.grad is not None])

    def squared_grad_norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return this rank's part of the squared norm of the gradient: an equal part, since all hold the same."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return squared_norm(gradients) / self.dims.world_size

    def map_matrices(
        self, function: MatrixFunction, shards: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function to matrices of one shape, of which each rank computes its share."""
        return map_replicated_matrices(function, shards)
