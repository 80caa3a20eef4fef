"""Strategies: how the ranks of a run share a model and its batches. One file per strategy, named as in `parallel`.

A strategy's module defines `launch`, which calls a function once per rank with a `Strategy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.model.tensor_part import TensorPart
from gptctl.train.distributed.collectives import MatrixFunction
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.job import Model, TrainJob

T = TypeVar("T")

MEMORY_HINT = "use --set micro_batch_size=1 or parallel=fsdp, with another -o; pretrain --dry-run shows what is needed"


class Strategy(Protocol):
    """One rank's view of all ranks: what it holds of the model, and how it communicates with the others.

    A parameter may be sharded over ranks. What optimizers work on are this rank's shards, as plain tensors.
    """

    dims: ParallelDims
    rank: int
    local_world_size: int  # ranks on this machine
    dp_rank: int  # which share of a batch this rank reads, out of dims.dp_size
    device: torch.device
    checkpoint_group: Any  # a process group that only the checkpoint writer's thread uses

    def prepare_model(self, model: Model, precision: str, compiled: bool) -> dict[str, nn.Parameter]:
        """Shard a model on the meta device if the strategy does, and allocate this rank's shards, which have no values.

        Return the shards by name, in float32 for every precision. Call `update_model` once they have values.
        """

    def start_backward(self, is_last: bool) -> None:
        """Prepare for the backward pass of a micro-batch: the last of a batch, or one whose sums may wait for it."""

    def update_model(self) -> None:
        """Copy this rank's shards into the model, if it computes with rounded copies of them."""

    def reduce_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Sum the gradients of this rank's shards over all ranks."""

    def squared_grad_norm(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Return this rank's part of the squared norm of the gradient, () float64 on the device.

        `all_reduce` of these parts is the squared norm.
        """

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum of float64 values over all shares of a batch, on the CPU."""

    def broadcast_object(self, value: T) -> T:
        """Return the first rank's value."""

    def gather_objects(self, value: T) -> list[T]:
        """Return the values of all ranks, by rank."""

    def heartbeat(self, step: int, phase: str) -> None:
        """Report that this rank has reached a phase of a step."""

    def busy(self, phase: str) -> AbstractContextManager[None]:
        """Report that this rank is at work, for up to an hour, while a block runs that cannot call `heartbeat`."""

    def as_dtensor(self, parameter: nn.Parameter, values: Tensor) -> Tensor:
        """Return values of one of this rank's shards as the tensor that all ranks hold together."""

    def part_of(self, parameter: nn.Parameter) -> TensorPart:
        """Return one of this rank's shards as a part of the full parameter."""

    def full_shape(self, parameter: nn.Parameter) -> torch.Size:
        """Return the shape of the parameter that a shard belongs to."""

    def map_matrices(
        self, function: MatrixFunction, shards: Sequence[Tensor], parameters: Sequence[nn.Parameter]
    ) -> list[Tensor]:
        """Apply a function of stacked full matrices (N, rows, ...), and return this rank's shards of the results.

        `shards` are values of `parameters`, all of one full shape.
        """


RankFunction = Callable[[TrainJob, Run, Context, Any], dict[str, Any]]  # the last argument is a Strategy


class StrategyModule(Protocol):
    """What the module of a strategy defines."""

    def launch(self, train_rank: RankFunction, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
        """Call train_rank in each rank of this machine, and return what the first rank returned."""
