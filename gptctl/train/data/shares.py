"""Which source each sample of a mixture comes from: a rule with exact shares. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from threading import Lock

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
MAX_TOTAL = 2**31  # of integer weights, so that products of two of them fit into 64 bits
SNAPSHOT_EVERY = 4096  # samples


class Shares:
    """Divides an endless sequence of samples among sources.

    Of the first n samples, each source has floor(n * share) or ceil(n * share), for every n. The source of a sample is
    a function of the weights and the sample's index alone.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = integer_weights(weights)
        self.cycle = int(self.weights.sum())  # after which the sequence repeats
        # The samples of each source before every SNAPSHOT_EVERY-th sample, so that a walk to any sample is short.
        self._snapshots = [np.zeros(len(self.weights), np.int64)]
        self._lock = Lock()

    def sources(self, first: int, count: int) -> Integers:
        """Return the numbers of the sources of `count` samples, (count,)."""
        found, left = [], count
        while left:
            start = (first + count - left) % self.cycle
            length = min(left, self.cycle - start)
            found.append(self._walk(start, length)[1])
            left -= length
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def counts(self, samples: int) -> Integers:
        """Return how many of the first `samples` samples each source has, (sources,)."""
        cycles, rest = divmod(samples, self.cycle)
        return cycles * self.weights + self._walk(rest, 0)[0]

    def _walk(self, start: int, length: int) -> tuple[Integers, Integers]:
        """Return the samples of each source before `start`, and the sources of `length` samples, inside one cycle."""
        from gptctl.text.kernels.shares import assign_samples

        with self._lock:  # batches are read in a thread, and their samples are counted in another
            while len(self._snapshots) * SNAPSHOT_EVERY <= start:
                taken = self._snapshots[-1].copy()
                first = (len(self._snapshots) - 1) * SNAPSHOT_EVERY
                assign_samples(self.weights, first, taken, np.empty(SNAPSHOT_EVERY, np.int64))
                self._snapshots.append(taken)
        nearest = start // SNAPSHOT_EVERY
        taken, chosen = self._snapshots[nearest].copy(), np.empty(length, np.int64)
        assign_samples(self.weights, nearest * SNAPSHOT_EVERY, taken, np.empty(start % SNAPSHOT_EVERY, np.int64))
        before = taken.copy()
        assign_samples(self.weights, start, taken, chosen)
        return before, chosen


def integer_weights(weights: Sequence[float]) -> Integers:
    """Return whole numbers in the proportion of some weights, which are exact as they print: 0.7 is seven tenths.

    Only if their sum would exceed 2**31 are they rounded, to shares of 2**-31.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    divisor = math.gcd(*whole)
    whole = [weight // divisor for weight in whole]
    if (total := sum(whole)) > MAX_TOTAL - len(whole):
        whole = [max(1, weight * (MAX_TOTAL - len(whole)) // total) if weight else 0 for weight in whole]
    return np.array(whole, np.int64)
