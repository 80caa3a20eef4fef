"""Counts that the bootstrap draws for classification metrics: cells of a confusion matrix, or counts per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gptctl.evals.array_types import IntArray
from gptctl.evals.scoring.confusion import ClassCounts, ConfusionMatrix
from gptctl.evals.stats.resampling import ResamplingUnits, Sample, group_units


@dataclass(frozen=True)
class ClassStatistics:
    """Counts per class of each unit, (U, k), for multilabel rows. Totals are (R, k)."""

    counts: ClassCounts

    @property
    def numbers_per_unit(self) -> int:
        """Return k, at least 1."""
        return max(1, len(self.counts.labels))

    def totals(self, weights: IntArray) -> ClassCounts:
        """Sum the counts, as floats: their matrix product is fast, and exact up to 2^53."""
        drawn = weights.astype(np.float64)
        columns = (self.counts.tp, self.counts.predicted, self.counts.support)
        return ClassCounts(self.counts.labels, *((drawn @ column).round().astype(np.int64) for column in columns))

    def take(self, units: IntArray) -> ClassStatistics:
        """Return the counts of these units, in this order."""
        counts = self.counts
        taken = (counts.tp[units], counts.predicted[units], counts.support[units])
        return ClassStatistics(ClassCounts(counts.labels, *taken))


@dataclass(frozen=True)
class CellStatistics:
    """Cells of a confusion matrix: unit u has the class `gold[u]` and the prediction `predicted[u]` (k if invalid)."""

    labels: tuple[str, ...]
    gold: IntArray
    predicted: IntArray

    @property
    def numbers_per_unit(self) -> int:
        """Return the numbers that the totals need per cell, at least 1."""
        return max(1, len(self.labels) // max(1, self.gold.size))

    @cached_property
    def _orders(self) -> tuple[IntArray, IntArray, IntArray]:
        correct = np.flatnonzero(self.gold == self.predicted)
        by_gold = np.argsort(self.gold, kind="stable")
        by_prediction = np.argsort(self.predicted, kind="stable")
        return correct[np.argsort(self.gold[correct], kind="stable")], by_prediction, by_gold

    def totals(self, weights: IntArray) -> ClassCounts:
        """Sum true positives, predictions and gold rows of each class: ClassCounts (R, k)."""
        k = len(self.labels)
        correct, by_prediction, by_gold = self._orders
        return ClassCounts(
            self.labels,
            _sum_columns(weights[:, correct], self.gold[correct], k),
            _sum_columns(weights[:, by_prediction], self.predicted[by_prediction], k + 1)[:, :k],
            _sum_columns(weights[:, by_gold], self.gold[by_gold], k),
        )

    def take(self, units: IntArray) -> CellStatistics:
        """Return these cells, in this order."""
        return CellStatistics(self.labels, self.gold[units], self.predicted[units])


@dataclass(frozen=True)
class GroupStatistics:
    """The cells of groups of rows: unit u has those from `starts[u]` to `starts[u + 1]`, with `counts` rows each."""

    cells: CellStatistics
    counts: IntArray
    starts: IntArray

    @property
    def numbers_per_unit(self) -> int:
        """Return the numbers that the totals need per unit, at least 1."""
        return max(1, max(len(self.cells.labels), self.counts.size) // max(1, len(self.starts) - 1))

    @cached_property
    def _unit_of_cell(self) -> IntArray:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def totals(self, weights: IntArray) -> ClassCounts:
        """Sum true positives, predictions and gold rows of each class: ClassCounts (R, k)."""
        return self.cells.totals(weights[:, self._unit_of_cell] * self.counts)

    def take(self, units: IntArray) -> GroupStatistics:
        """Return the cells of these units, in this order."""
        sizes = np.diff(self.starts)[units]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        chosen = np.repeat(self.starts[units] - starts[:-1], sizes) + np.arange(starts[-1])
        return GroupStatistics(self.cells.take(chosen), self.counts[chosen], starts)


def sample_of_matrix(confusion: ConfusionMatrix) -> Sample:
    """Build a sample whose units are the occupied cells. A matrix does not say which rows these are."""
    units = ResamplingUnits(np.empty(0, np.int64), confusion.counts)
    return Sample(units, CellStatistics(confusion.labels, confusion.gold, confusion.predicted))


def sample_of_classes(
    labels: tuple[str, ...], gold: IntArray, predicted: IntArray, groups: Sequence[Any] | None
) -> Sample:
    """Build a sample whose units are the occupied cells, or groups of rows.

    `gold` and `predicted` are the rows' indices in `labels` (N,); k for an invalid prediction.
    """
    k = len(labels)
    if groups is None:
        cells, inverse, counts = np.unique(gold * (k + 1) + predicted, return_inverse=True, return_counts=True)
        units = ResamplingUnits(inverse.ravel(), counts.astype(np.int64))
        return Sample(units, CellStatistics(labels, cells // (k + 1), cells % (k + 1)))
    units = group_units(groups)
    keys = (units.unit_of_row * k + gold) * (k + 1) + predicted
    cells, counts = np.unique(keys, return_counts=True)
    of_unit, cell = cells // (k * (k + 1)), cells % (k * (k + 1))
    starts = np.searchsorted(of_unit, np.arange(len(units.counts) + 1))
    return Sample(units, GroupStatistics(CellStatistics(labels, cell // (k + 1), cell % (k + 1)), counts, starts))


def _sum_columns(weights: IntArray, classes: IntArray, k: int) -> IntArray:
    """Sum the columns of `weights` (R, cells) that belong to the same class, (R, k); `classes` is ascending."""
    sums = np.zeros((len(weights), k), np.int64)
    if classes.size:
        present, starts = np.unique(classes, return_index=True)
        sums[:, present] = np.add.reduceat(weights, starts, axis=1)
    return sums
