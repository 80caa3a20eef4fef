"""Which split each unit belongs to, in bounded memory.

Units of several documents are decided one by one, the largest first. Each goes where it disturbs the shares least: the
sum over labels and splits of the squared distance between the documents that a split has and its share of those that
were decided. Documents that are alone then fill the quotas, in the order of a hash. So the quotas are met exactly,
unless units are too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.pipeline.sorted_runs import SortedRuns
from gptctl.text.splitting.quotas import TEST, TRAIN, VAL, Quotas

SPLITS = (TRAIN, VAL, TEST)
SAMPLES_PER_RUN = 256
LAST = 2**64 - 1


@dataclass
class UnitAssignment:
    """Decides units. `shares` are those of train, val and test; `given` (labels, 3) counts the documents of each label
    that were decided for each split.
    """

    quotas: Quotas
    shares: Sequence[float]
    given: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Start with empty splits."""
        self.given = np.zeros((len(self.quotas.total), len(SPLITS)), np.int64)

    def decide(self, labels: Sequence[int], counts: Sequence[int]) -> int:
        """Return the split of a unit with `counts` documents of each of `labels`, and count them there.

        A unit goes to train if it has all documents of a label that are not in val or test already.
        """
        given, total = self.given, self.quotas.total
        costs = [0.0, 0.0, 0.0]
        for label, count in zip(labels, counts, strict=True):
            row = given[label].tolist()
            decided = sum(row) + count
            for split in SPLITS:
                gap = row[split] - self.shares[split] * decided
                costs[split] += count * (2 * gap + count)  # (gap + count)**2 - gap**2
            if row[VAL] + row[TEST] + count >= total[label]:
                costs[VAL] = costs[TEST] = float("inf")
        for split in (VAL, TEST):
            if not self.shares[split]:
                costs[split] = float("inf")
        chosen = costs.index(min(costs))
        for label, count in zip(labels, counts, strict=True):
            given[label, chosen] += count
        return chosen

    def still_needed(self, alone: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many of the documents that are `alone`, by label, go to val and to test.

        If there are too few, both get their part of them.
        """
        val = np.maximum(self.quotas.val - self.given[:, VAL], 0)
        test = np.maximum(self.quotas.test - self.given[:, TEST], 0)
        # One document of each label, at least, stays in train.
        available = np.minimum(alone, np.maximum(self.quotas.total - self.given[:, VAL] - self.given[:, TEST] - 1, 0))
        wanted = val + test
        short = wanted > available
        test = np.where(short, available * test // np.maximum(wanted, 1), test)
        return np.where(short, available - test, val), test


@dataclass(frozen=True)
class Cuts:
    """Positions in the order of documents at which test ends and val ends, for each label.

    A position is two numbers that are compared one after the other. `labels` are sorted. `ends` has the shape
    (labels, 2, 2): for each label, the first position behind test, and the first position behind val.
    """

    labels: NDArray[np.uint64]
    ends: NDArray[np.uint64]

    def split_of(
        self, label: NDArray[np.uint64], position: NDArray[np.uint64], tie: NDArray[np.uint64]
    ) -> NDArray[np.uint8]:
        """Return the split of documents by their labels and positions."""
        ends = self.ends[np.minimum(np.searchsorted(self.labels, label), len(self.labels) - 1)]
        before = (position[:, None] < ends[:, :, 0]) | (
            (position[:, None] == ends[:, :, 0]) & (tie[:, None] < ends[:, :, 1])
        )
        return np.where(before[:, 0], TEST, np.where(before[:, 1], VAL, TRAIN)).astype(np.uint8)

    def to_bytes(self) -> bytes:
        """Return the cuts as bytes, by which the record of a task distinguishes them."""
        return self.labels.tobytes() + self.ends.tobytes()


def find_cuts(
    runs: SortedRuns, labels: NDArray[np.uint64], val: NDArray[np.int64], test: NDArray[np.int64], parts: int
) -> Cuts:
    """Return the cuts that give each of the sorted `labels` its numbers of documents.

    `runs` have the columns position, tie and label, sorted by position. They are read in `parts` parts.
    """
    ends = np.zeros((len(labels), 2, 2), np.uint64)
    wanted = np.stack([test, test + val], axis=1)
    seen = np.zeros(len(labels), np.int64)
    for part in in_order(runs, parts):
        label, position, tie = (part[name].to_numpy() for name in ("label", "position", "tie"))
        row = np.searchsorted(labels, label)
        order = np.lexsort((tie, position, row))
        counts = np.bincount(row, minlength=len(labels))
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        for number in range(2):
            place = wanted[:, number] - seen  # the first document behind the split, if it is in this part
            here = np.flatnonzero((place >= 0) & (place < counts))
            chosen = order[starts[here] + place[here]]
            ends[here, number, 0], ends[here, number, 1] = position[chosen], tie[chosen]
        seen += counts
    for number in range(2):
        ends[wanted[:, number] >= seen, number] = LAST
    return Cuts(labels, ends)


def in_order(runs: SortedRuns, parts: int) -> Iterator[pa.Table]:
    """Yield the rows of all runs in ranges of about equal size, in ascending order of their first column."""
    samples = [np.empty(0, np.uint64)]
    for number in runs.numbers():
        column = runs.open(number).column(0).to_numpy()
        samples.append(column[:: len(column) // SAMPLES_PER_RUN + 1].copy())
    ordered = np.sort(np.concatenate(samples))
    inner = [int(ordered[len(ordered) * part // parts]) for part in range(1, parts)] if len(ordered) else []
    bounds = sorted({0, *inner, LAST + 1})
    for low, high in pairwise(bounds):
        found = runs.between(low, high)
        if found is not None:
            yield found
