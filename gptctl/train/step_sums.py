"""The numbers that ranks add up once per step, in one collective, and that the host reads all at once.

Until then they stay on the device: each read makes the host wait until a GPU has done everything queued before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gptctl.model.device import to_device, to_double
from gptctl.train.strategies import Strategy


class RankSums:
    """One rank's part of a step: tensors on its device, and flags and times that the host knows."""

    def __init__(self, device: torch.device, dp_size: int, metrics: int = 0) -> None:
        self.loss = self.targets = self.squared_grad_norm = to_double(torch.zeros((), device=device))
        self.metrics = to_double(torch.zeros(metrics, device=device))
        self.stop_requested = self.write_failed = False
        self.share_seconds = [0.0] * dp_size  # the time of each share of the batch

    def add(self, loss: Tensor, targets: Tensor, metrics: Tensor | None = None) -> None:
        """Add the loss sum, the number of targets and the metrics of a micro-batch, without waiting for them."""
        self.loss = self.loss + to_double(loss.detach())
        self.targets = self.targets + to_double(targets)
        if metrics is not None:
            self.metrics = self.metrics + metrics

    def pack(self) -> Tensor:
        """Return all numbers as one tensor on the device."""
        tensors = torch.stack((self.loss, self.targets, self.squared_grad_norm))
        flags = [float(self.stop_requested), float(self.write_failed)]
        flags_and_times = to_device([*flags, *self.share_seconds], tensors.device, tensors.dtype)
        return torch.cat((tensors, self.metrics, flags_and_times))

    def all_reduce(self, strategy: Strategy) -> StepSums:
        """Return the sums over all ranks. This is the one point of a step at which the host waits for the device."""
        return StepSums.unpack(strategy.all_reduce(self.pack()), len(self.metrics))


@dataclass(frozen=True)
class StepSums:
    """The sums of a step over all ranks."""

    loss: float
    targets: float
    squared_grad_norm: float
    stop_requested: float  # the flags are positive if they are set in any rank
    write_failed: float
    share_seconds: list[float]
    metrics: list[float] = field(default_factory=list)

    @classmethod
    def unpack(cls, packed: Tensor, metrics: int = 0) -> StepSums:
        """Return the numbers of a packed tensor, of which so many are metrics."""
        loss, targets, squared_grad_norm, *rest = packed.tolist()
        stop_requested, write_failed, *share_seconds = rest[metrics:]
        return cls(loss, targets, squared_grad_norm, stop_requested, write_failed, share_seconds, rest[:metrics])
