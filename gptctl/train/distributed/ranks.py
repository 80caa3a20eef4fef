"""What one of several ranks needs whatever it holds of the model; the base of the engines in gptctl/train/engines."""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gptctl.train.monitor.heartbeat import Pulse

T = TypeVar("T")


class Ranks:
    """One rank among many; made inside its process, once the ranks are connected."""

    def __init__(self, device: torch.device, pulse: Pulse) -> None:
        self.device = device
        self.pulse = pulse
        self.rank = dist.get_rank()
        self.ranks = dist.get_world_size()
        self.local_ranks = int(os.environ["LOCAL_WORLD_SIZE"])  # on this machine
        self.data_rank, self.data_ranks = self.rank, self.ranks  # which share of a batch it reads, out of how many
        cheap = "fake" if dist.get_backend() == "fake" else "gloo"  # see rehearse.py
        self.talk = dist.new_group(backend=cheap)  # for what is not a tensor on the device
        self.quiet = dist.new_group(backend=cheap)  # for checkpoints, which are written in a thread of their own

    def sum(self, values: Tensor) -> Tensor:
        """Add float64 values up over all shares of the batch."""
        values = values.to(self.device)
        dist.all_reduce(values)
        return values.cpu()

    def agree(self, value: T) -> T:
        """Give every rank what the first one holds."""
        held = [value]
        dist.broadcast_object_list(held, group=self.talk, group_src=0)
        return held[0]

    def at(self, step: int, phase: str) -> None:
        """Show that this rank goes on, and where."""
        self.pulse.at(step, phase)
