"""The numbers that ranks add up once per step, in one collective."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gptctl.train.strategies import Strategy


@dataclass
class StepSums:
    """One rank's part of a step, or after `all_reduce` the sums over all ranks."""

    loss: float = 0.0
    targets: float = 0.0
    squared_grad_norm: float = 0.0
    stop_requested: float = 0.0  # the flags are positive if they are set in any rank
    write_failed: float = 0.0
    share_seconds: list[float] = field(default_factory=list)  # the time of each share of the batch

    def all_reduce(self, strategy: Strategy) -> StepSums:
        """Return the sums over all ranks."""
        return StepSums.unpack(strategy.all_reduce(self.pack()))

    def pack(self) -> Tensor:
        """Return all numbers as one float64 tensor."""
        sums = [self.loss, self.targets, self.squared_grad_norm]
        flags = [float(self.stop_requested), float(self.write_failed)]
        return torch.tensor([*sums, *flags, *self.share_seconds], dtype=torch.float64)

    @classmethod
    def unpack(cls, packed: Tensor) -> StepSums:
        """Return the numbers of a packed tensor."""
        loss, targets, squared_grad_norm, *rest = packed.tolist()
        stop_requested, write_failed, *share_seconds = rest
        return cls(loss, targets, squared_grad_norm, stop_requested, write_failed, share_seconds)
