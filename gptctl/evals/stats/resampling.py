"""Draw rows anew, with replacement, as often as a bootstrap asks for (Efron 1979), without touching the rows.

Rows that are the same in all that a metric looks at are one unit that stands several times: how often each unit is
drawn then follows a multinomial distribution. 10,000 draws of a confusion matrix of 6 classes take 30 ms for any number
of rows. Rows of one `group_id` (paraphrases, windows of one document) are one unit too, and are drawn together.

R resamples, N rows, U units, k classes, S statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from gptctl.core.seeds import derive
from gptctl.evals.scoring.confusion import Integers, Sums

Floats: TypeAlias = npt.NDArray[np.float64]
Estimate: TypeAlias = Callable[[Any], Floats]

RESAMPLES = 10_000
MIN_RESAMPLES = 1_000
MAX_DRAWS = 2 * 10**8  # draws of units in all: where every row is a unit of its own, 20,000 rows get RESAMPLES
CHUNK_CELLS = 2**22  # drawn cells held at once: 32 MiB
WORTHWHILE = 4  # rows per unit from which drawing units is faster than drawing rows


class Payload(Protocol):
    """What a unit contributes to the totals that a metric is computed from."""

    @property
    def width(self) -> int:
        """Numbers held per unit, for the size of chunks."""

    def totals(self, weights: Integers) -> Any:
        """Add up the units, each `weights` (R, U) times."""

    def take(self, units: Integers) -> Payload:
        """Return the payload of some units, in that order."""


@dataclass(frozen=True)
class Stats:
    """Plain numbers, (U, S); totals are (R, S)."""

    values: Floats

    @property
    def width(self) -> int:
        """Numbers held per unit."""
        return int(max(1, self.values.shape[1]))

    def totals(self, weights: Integers) -> Floats:
        """Add up the rows of numbers."""
        return np.asarray(weights @ self.values)

    def take(self, units: Integers) -> Stats:
        """Choose rows of numbers."""
        return Stats(self.values[units])


@dataclass(frozen=True)
class ClassSums:
    """Counts of each class per unit, (U, k); totals are Sums (R, k). For sets of labels, and for groups of rows."""

    sums: Sums

    @property
    def width(self) -> int:
        """Numbers held per unit."""
        return max(1, len(self.sums.labels))

    def totals(self, weights: Integers) -> Sums:
        """Add up the counts; in floats, whose matrix product is fast and exact up to 2^53."""
        drawn = weights.astype(np.float64)
        parts = (self.sums.tp, self.sums.predicted, self.sums.support)
        return Sums(self.sums.labels, *((drawn @ part).round().astype(np.int64) for part in parts))

    def take(self, units: Integers) -> ClassSums:
        """Choose units."""
        sums = self.sums
        return ClassSums(Sums(sums.labels, sums.tp[units], sums.predicted[units], sums.support[units]))


@dataclass(frozen=True)
class Cells:
    """Cells of a confusion matrix: unit u has class `gold[u]` and prediction `predicted[u]` (k: invalid)."""

    labels: tuple[str, ...]
    gold: Integers
    predicted: Integers

    @property
    def width(self) -> int:
        """Numbers held per unit."""
        return max(1, len(self.labels) // max(1, self.gold.size))

    @cached_property
    def _orders(self) -> tuple[Integers, Integers, Integers]:
        right = np.flatnonzero(self.gold == self.predicted)
        by_gold = np.argsort(self.gold, kind="stable")
        return right[np.argsort(self.gold[right], kind="stable")], np.argsort(self.predicted, kind="stable"), by_gold

    def totals(self, weights: Integers) -> Sums:
        """Add up true positives, predictions and gold rows of each class: Sums (R, k)."""
        k = len(self.labels)
        right, by_prediction, by_gold = self._orders
        return Sums(
            self.labels,
            _add_up(weights[:, right], self.gold[right], k),
            _add_up(weights[:, by_prediction], self.predicted[by_prediction], k + 1)[:, :k],
            _add_up(weights[:, by_gold], self.gold[by_gold], k),
        )

    def take(self, units: Integers) -> Cells:
        """Choose cells."""
        return Cells(self.labels, self.gold[units], self.predicted[units])


@dataclass(frozen=True, eq=False)
class Units:
    """Which unit each row belongs to (N,), and how often each unit is in the data (U,); groups stand once each."""

    of_row: Integers
    counts: Integers
    grouped: bool = False

    def draws(self, width: int, resamples: int, seed: int) -> Iterator[Integers]:
        """Draw as many units as there are, again and again: weights (R, U) in chunks. Equal seeds give equal draws."""
        units, total = len(self.counts), int(self.counts.sum())
        if not total:
            return
        generator = np.random.default_rng(derive(seed, "bootstrap"))
        rows = max(1, CHUNK_CELLS // (units * width))
        each_once = total == units
        shares = self.counts / total
        for start in range(0, resamples, rows):
            size = min(rows, resamples - start)
            if each_once:
                drawn = generator.integers(0, units, (size, total)) + np.arange(size)[:, None] * units
                yield np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
            else:
                yield generator.multinomial(total, shares, size=size)


def resamples_for(units: int) -> int:
    """Return 10,000 resamples, fewer where there are very many units, never below 1,000."""
    return max(MIN_RESAMPLES, min(RESAMPLES, MAX_DRAWS // max(units, 1)))


def from_rows(values: Floats, groups: Sequence[Any] | None = None) -> tuple[Units, Stats]:
    """Make units of rows of statistics (N, S): groups where there are any, else equal rows, if that makes them few."""
    n = len(values)
    if groups is not None:
        units = in_groups(groups)
        return units, Stats(add_by_group(values, units))
    if n:
        distinct, inverse, counts = np.unique(values, axis=0, return_inverse=True, return_counts=True)
        if len(distinct) * WORTHWHILE <= n:
            return Units(inverse.ravel(), counts.astype(np.int64)), Stats(distinct)
    return Units(np.arange(n), np.ones(n, np.int64)), Stats(values)


def in_groups(groups: Sequence[Any]) -> Units:
    """Make one unit of each group, numbered in the order of their first rows."""
    numbers: dict[str, int] = {}
    of_row = np.array([numbers.setdefault(str(group), len(numbers)) for group in groups], np.int64)
    return Units(of_row, np.ones(len(numbers), np.int64), grouped=True)


def add_by_group(values: npt.NDArray[Any], units: Units) -> npt.NDArray[Any]:
    """Add up the rows of `values` (N, S) that share a unit: (U, S)."""
    added = np.zeros((len(units.counts), *values.shape[1:]), values.dtype)
    np.add.at(added, units.of_row, values)
    return added


def paired(first: Units, second: Units) -> tuple[Units, Integers, Integers]:
    """Join the units of the same rows in two systems: the pairs that occur, and which unit each has in either."""
    codes = first.of_row * len(second.counts) + second.of_row
    pairs, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    grouped = first.grouped and second.grouped
    joined = Units(inverse, np.ones_like(counts) if grouped else counts.astype(np.int64), grouped)
    size = max(1, len(second.counts))
    return joined, pairs // size, pairs % size


def bootstrap_values(
    units: Units, payload: Payload, estimates: Mapping[str, Estimate], resamples: int, seed: int
) -> dict[str, Floats]:
    """Give each metric's value in each resample, (R,); all metrics see the same resamples."""
    values: dict[str, list[Floats]] = {name: [] for name in estimates}
    for weights in units.draws(payload.width, resamples, seed):
        totals = payload.totals(weights)
        for name, estimate in estimates.items():
            values[name].append(estimate(totals))
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in values.items()}


def _add_up(cells: Integers, groups: Integers, k: int) -> Integers:
    """Sum the columns of `cells` (R, cells) that share a group, groups ascending, into (R, k)."""
    sums = np.zeros((len(cells), k), np.int64)
    if groups.size:
        present, starts = np.unique(groups, return_index=True)
        sums[:, present] = np.add.reduceat(cells, starts, axis=1)
    return sums
