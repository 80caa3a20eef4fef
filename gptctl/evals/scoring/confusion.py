"""The confusion matrix: its cells hold all that a classification metric needs.

Matrices of several shards or processes are merged by addition, so the result is exact and independent of their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.array_types import BoolArray, IntArray
from gptctl.io.labels import label_text

__all__ = ["ClassCounts", "ConfusionMatrix", "confusion_matrix"]

Label: TypeAlias = str | int | float | None

SHOWN = 10  # labels listed in an error message


@dataclass(frozen=True)
class ClassCounts:
    """Counts per class, each (..., k): true positives, predictions and gold rows.

    The leading axes hold several matrices at once, such as those of resamples.
    """

    labels: tuple[str, ...]
    tp: IntArray
    predicted: IntArray
    support: IntArray

    def present(self) -> BoolArray:
        """Return which classes occur among the gold labels or the predictions (..., k)."""
        present: BoolArray = self.predicted + self.support > 0
        return present


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Counts of gold and predicted label, of which only those above 0 are held: memory grows with the rows read.

    Cell i, in order of gold and predicted label, has the gold label `gold[i]`, the predicted label `predicted[i]`, and
    `counts[i]` rows. For predictions outside the label set, `predicted[i]` is the number of labels.
    """

    labels: tuple[str, ...]
    gold: IntArray
    predicted: IntArray
    counts: IntArray

    @classmethod
    def from_matrix(cls, labels: tuple[str, ...], matrix: IntArray) -> ConfusionMatrix:
        """Return the cells of a matrix (k, k + 1), whose last column counts predictions outside the label set."""
        gold, predicted = np.nonzero(matrix)
        return cls(labels, gold, predicted, matrix[gold, predicted])

    @property
    def matrix(self) -> IntArray:
        """Return the matrix (k, k + 1): rows are gold classes, columns predicted ones, the last one those outside."""
        matrix = np.zeros((len(self.labels), len(self.labels) + 1), np.int64)
        matrix[self.gold, self.predicted] = self.counts
        return matrix

    @property
    def n(self) -> int:
        """Return the number of rows."""
        return int(self.counts.sum())

    @property
    def invalid(self) -> int:
        """Return the number of predictions that are null or outside the label set; they count as wrong."""
        return int(self.counts[self.predicted == len(self.labels)].sum())

    def class_counts(self) -> ClassCounts:
        """Return true positives, predictions and gold rows of each class, each (k,)."""
        k, is_right = len(self.labels), self.gold == self.predicted
        return ClassCounts(
            self.labels,
            sum_counts(self.gold[is_right], self.counts[is_right], k),
            sum_counts(self.predicted, self.counts, k + 1)[:k],
            sum_counts(self.gold, self.counts, k),
        )

    def absent(self) -> list[str]:
        """Return the classes that are neither a gold label nor predicted."""
        present = self.class_counts().present()
        return [label for label, seen in zip(self.labels, present, strict=True) if not seen]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        ours, theirs = ((one.gold, one.predicted, one.counts) for one in (self, other))
        return self.labels == other.labels and all(map(np.array_equal, ours, theirs))

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Merge two matrices. If their label sets differ, the result has the sorted union of both."""
        labels = self.labels if self.labels == other.labels else tuple(sorted({*self.labels, *other.labels}))
        place = {label: index for index, label in enumerate(labels)}
        parts = []
        for one in (self, other):
            places = np.array([*(place[label] for label in one.labels), len(labels)], np.int64)
            parts.append((places[one.gold], places[one.predicted], one.counts))
        gold, predicted, counts = map(np.concatenate, zip(*parts, strict=True))
        return of_cells(labels, gold, predicted, counts)


def of_cells(labels: tuple[str, ...], gold: IntArray, predicted: IntArray, counts: IntArray) -> ConfusionMatrix:
    """Return the matrix of cells (c,) in any order. Counts of equal cells are added."""
    width = len(labels) + 1
    cells, inverse = np.unique(gold * width + predicted, return_inverse=True)
    return ConfusionMatrix(labels, cells // width, cells % width, sum_counts(inverse.ravel(), counts, len(cells)))


def sum_counts(places: IntArray, counts: IntArray, size: int) -> IntArray:
    """Return the sum of the counts at each place below `size`."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, places, counts)
    return sums


def confusion_matrix(
    gold: Sequence[Label], predicted: Sequence[Label], labels: Sequence[Label] | None = None
) -> ConfusionMatrix:
    """Count each pair of gold and predicted label.

    Labels are compared as gptctl/io/labels.py says, so 1, 1.0 and "1.0" are equal. Without `labels`, the label set is
    the sorted union of all labels seen. Raises DataError if a gold label is null or outside the label set, with its row
    counted from 1, and if the two columns differ in length. Raises UsageError if `labels` contains a label twice.
    """
    if len(gold) != len(predicted):
        raise DataError(f"{len(gold)} labels but {len(predicted)} predictions", "give one prediction for each row")
    gold_texts, predicted_texts = label_texts(gold), label_texts(predicted)
    pairs = Counter(zip(gold_texts, predicted_texts, strict=True))
    if labels is None:
        known = tuple(sorted({label for pair in pairs for label in pair if label is not None}))
    else:
        known = tuple(label_text(label) for label in labels)
    index_of = {label: index for index, label in enumerate(known)}
    if len(index_of) < len(known):
        twice = next(label for label, times in Counter(known).items() if times > 1)
        raise UsageError(f"label '{twice}' is given twice", "name each label once")
    if any(label not in index_of for label, _ in pairs):
        raise _bad_row(gold_texts, known)
    width = len(known)
    gold_index = [index_of[str(label)] for label, _ in pairs]
    predicted_index = [width if label is None else index_of.get(label, width) for _, label in pairs]
    return of_cells(known, *(np.array(values, np.int64) for values in (gold_index, predicted_index, [*pairs.values()])))


def label_texts(values: Sequence[Label]) -> list[str | None]:
    """Return labels as the texts by which they are compared."""
    return [None if value is None else label_text(value) for value in values]


def _bad_row(gold: Sequence[str | None], known: Sequence[str]) -> DataError:
    """Return the error for the first row whose gold label is null or unknown."""
    names = {*known}
    row, label = next((row, label) for row, label in enumerate(gold, 1) if label is None or label not in names)
    if label is None:
        return DataError(f"row {row}: the label is null", "give every row a label, or remove the row")
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return DataError(
        f"row {row}: label '{label}' is not in the label set ({', '.join(known[:SHOWN])}{more})",
        "correct the row, or add the label with --labels",
    )
