"""Ranks that are slower than the others, which all have to wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low

LOOK_EVERY = 50  # updates that are compared together: one slow step is no news
FACTOR = 1.5  # of the median


@dataclass
class Stragglers:
    """Adds up how long each rank worked on its share, waiting for others not included."""

    seconds: list[float] = field(default_factory=list)
    updates: int = 0
    told: set[int] = field(default_factory=set)  # ranks that the user was warned of

    def add(self, seconds: Sequence[float]) -> dict[int, float]:
        """Add one update; now and then give the ranks above FACTOR times the median, with how many times that is."""
        self.seconds = [total + new for total, new in zip(self.seconds or [0.0] * len(seconds), seconds, strict=True)]
        self.updates += 1
        if self.updates < LOOK_EVERY:
            return {}
        usual = max(1e-9, median_low(self.seconds))
        slow = {rank: total / usual for rank, total in enumerate(self.seconds) if total > FACTOR * usual}
        self.seconds, self.updates = [], 0
        return slow
