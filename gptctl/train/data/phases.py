"""The phases of a mixture: weights of its sources that change at points of the run. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from gptctl.train.data.shares import Integers, Shares


@dataclass(frozen=True)
class MixturePhase:
    """The weights of the sources from a point of the run on, which is a share of all its samples (0 to 1).

    Weights are relative to their sum, and in the order of the sources.
    """

    start: float
    weights: tuple[float, ...]


class Phases:
    """Which source each sample of a mixture comes from. Shares are exact within each phase."""

    def __init__(self, phases: Sequence[MixturePhase], starts: Sequence[int]) -> None:
        """Take the sample with which each phase begins, the first of which is 0."""
        self.shares = [Shares(phase.weights) for phase in phases]
        self.starts = starts

    def counts(self, samples: int) -> Integers:
        """Return how many of the first `samples` samples each source has, (sources,)."""
        found = np.zeros_like(self.shares[0].weights)
        for shares, start, stop in self.overlapping(0, samples):
            found += shares.counts(stop - start)
        return found

    def sources(self, first: int, count: int) -> Integers:
        """Return the number of the source of each of `count` samples, (count,)."""
        parts = [np.empty(0, np.int64)]
        for shares, start, stop in self.overlapping(first, first + count):
            begin = max(first, start)
            parts.append(shares.sources(begin - start, stop - begin))
        return np.concatenate(parts)

    def overlapping(self, first: int, end: int) -> Iterator[tuple[Shares, int, int]]:
        """Yield the phases that have some of the samples [first, end): shares, first sample, and end of the samples."""
        for shares, (start, stop) in zip(self.shares, pairwise([*self.starts, end]), strict=True):
            stop = min(stop, end)
            if max(first, start) < stop:
                yield shares, start, stop


def phase_starts(
    phases: Sequence[MixturePhase], total_samples: int, next_sample: int = 0, begun: Sequence[int] = ()
) -> list[int]:
    """Return the sample with which each phase begins, in a run of `total_samples`.

    If a resumed run has another length than before, a phase that began before `next_sample` keeps its start in `begun`,
    and none that did not begin can begin earlier than there.
    """
    planned = [math.ceil(Fraction(str(phase.start)) * total_samples) for phase in phases]
    if not begun:
        return planned
    return [old if old < next_sample else max(new, next_sample) for old, new in zip(begun, planned, strict=True)]
