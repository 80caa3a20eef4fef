"""The part of a strategy that does not depend on how the model is shared: process groups and small collectives."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter

T = TypeVar("T")

# The watchdog decides whether a rank is lost, and names it. It must come before the timeout of a collective, which does
# not say who is missing and is 10 minutes for NCCL by default.
COLLECTIVE_TIMEOUT = timedelta(days=7)


class DistributedStrategy:
    """Base class of the strategies for several ranks. It is built inside a rank, once the ranks are connected."""

    def __init__(self, device: torch.device, heartbeat_writer: HeartbeatWriter, dims: ParallelDims) -> None:
        self.device = device
        self.heartbeat_writer = heartbeat_writer
        self.dims = dims
        self.rank = dist.get_rank()
        self.local_world_size = int(os.environ["LOCAL_WORLD_SIZE"])
        self.dp_rank = self.rank
        backend = "fake" if dist.get_backend() == "fake" else "gloo"  # simulate_step.py uses the fake one
        self.control_group = dist.new_group(
            backend=backend, timeout=COLLECTIVE_TIMEOUT
        )  # for objects, which are not on the device
        self.checkpoint_group = dist.new_group(
            backend=backend, timeout=COLLECTIVE_TIMEOUT
        )  # for the checkpoint writer's thread

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum of float64 values over all ranks, on the CPU."""
        values = values.to(self.device)
        dist.all_reduce(values)
        return values.cpu()

    def broadcast_object(self, value: T) -> T:
        """Return the first rank's value."""
        values = [value]
        dist.broadcast_object_list(values, group=self.control_group, group_src=0)
        return values[0]

    def gather_objects(self, value: T) -> list[T]:
        """Return the values of all ranks, by rank."""
        values = [value] * dist.get_world_size()
        dist.all_gather_object(values, value, group=self.control_group)
        return values

    def heartbeat(self, step: int, phase: str) -> None:
        """Report that this rank has reached a phase of a step."""
        self.heartbeat_writer.beat(step, phase)

    def busy(self, phase: str) -> AbstractContextManager[None]:
        """Report that this rank is at work while a block runs that cannot call `heartbeat`."""
        return self.heartbeat_writer.busy(phase)
