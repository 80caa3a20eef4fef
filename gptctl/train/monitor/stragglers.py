"""Detection of ranks that are slower than the others, which all have to wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low

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
