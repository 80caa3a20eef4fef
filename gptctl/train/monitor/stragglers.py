"""Detection of ranks that are slower than the others, which all have to wait for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low

import torch

WINDOW = 50  # updates that are compared together, because a single slow step means nothing
FACTOR = 1.5  # of the median time, above which a rank is slow


@dataclass
class StragglerDetector:
    """Sums the time that each rank spends on its share of the updates, without waiting for others."""

    seconds: list[float] = field(default_factory=list)
    updates: int = 0
    warned: set[int] = field(default_factory=set)  # ranks about which the user was warned

    def add(self, seconds: Sequence[float]) -> dict[int, float]:
        """Add one update. At the end of a window return the slow ranks, and their times as multiples of the median."""
        self.seconds = [total + new for total, new in zip(self.seconds or [0.0] * len(seconds), seconds, strict=True)]
        self.updates += 1
        if self.updates < WINDOW:
            return {}
        median = max(1e-9, median_low(self.seconds))
        slow = {rank: total / median for rank, total in enumerate(self.seconds) if total > FACTOR * median}
        self.seconds, self.updates = [], 0
        return slow


class ShareTimer:
    """Measures how long a rank works on its share of a batch.

    On CUDA the host only queues the work. Events on the device measure it, and are read one step later, when the host
    need not wait for them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.began = 0.0
        self.events: list[torch.cuda.Event] = []  # the start and end of the share before, and of this one

    def start(self) -> None:
        """Begin a share."""
        if self.device.type == "cuda":
            self.record()
        self.began = time.perf_counter()

    def stop(self) -> float:
        """End a share, and return its seconds; on CUDA those of the share before, or 0 for the first."""
        if self.device.type != "cuda":
            return time.perf_counter() - self.began
        self.record()
        *before, start, end = self.events
        self.events = [start, end]
        return before[-2].elapsed_time(before[-1]) / 1000 if before else 0.0

    def record(self) -> None:
        """Mark this point of the device's work."""
        self.events.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
        self.events[-1].record()
