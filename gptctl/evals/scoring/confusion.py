"""The confusion matrix: one integer matrix holds all that a classification metric needs.

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
    """Rows are gold classes, columns predicted ones. The last column counts predictions outside the label set.

    `matrix` has the shape (k, k + 1) for k labels, so its sum is the number of rows read: no row is left out.
    """

    labels: tuple[str, ...]
    matrix: IntArray

    @property
    def n(self) -> int:
        """Return the number of rows."""
        return int(self.matrix.sum())

    @property
    def invalid(self) -> int:
        """Return the number of predictions that are null or outside the label set; they count as wrong."""
        return int(self.matrix[:, -1].sum())

    def class_counts(self) -> ClassCounts:
        """Return true positives, predictions and gold rows of each class, each (k,)."""
        square = self.matrix[:, :-1]
        return ClassCounts(self.labels, np.diagonal(square).copy(), square.sum(axis=0), self.matrix.sum(axis=1))

    def absent(self) -> list[str]:
        """Return the classes that are neither a gold label nor predicted."""
        present = self.class_counts().present()
        return [label for label, seen in zip(self.labels, present, strict=True) if not seen]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        return self.labels == other.labels and bool(np.array_equal(self.matrix, other.matrix))

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Merge two matrices. If their label sets differ, the result has the sorted union of both."""
        if self.labels == other.labels:
            return ConfusionMatrix(self.labels, self.matrix + other.matrix)
        labels = tuple(sorted({*self.labels, *other.labels}))
        return ConfusionMatrix(labels, _expanded(self, labels) + _expanded(other, labels))


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
    matrix = np.zeros((len(known), len(known) + 1), np.int64)
    for (label, prediction), times in pairs.items():
        column = len(known) if prediction is None else index_of.get(prediction, len(known))
        matrix[index_of[str(label)], column] += times
    return ConfusionMatrix(known, matrix)


def label_texts(values: Sequence[Label]) -> list[str | None]:
    """Return labels as the texts by which they are compared."""
    return [None if value is None else label_text(value) for value in values]


def _bad_row(gold: Sequence[str | None], known: Sequence[str]) -> DataError:
    """Return the error for the first row whose gold label is null or unknown."""
    row, label = next((row, label) for row, label in enumerate(gold, 1) if label is None or label not in known)
    if label is None:
        return DataError(f"row {row}: the label is null", "give every row a label, or remove the row")
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return DataError(
        f"row {row}: label '{label}' is not in the label set ({', '.join(known[:SHOWN])}{more})",
        "correct the row, or add the label with --labels",
    )


def _expanded(confusion: ConfusionMatrix, labels: tuple[str, ...]) -> IntArray:
    """Return a matrix as part of the matrix of a larger label set."""
    rows = np.array([labels.index(label) for label in confusion.labels], np.int64)
    matrix = np.zeros((len(labels), len(labels) + 1), np.int64)
    matrix[np.ix_(rows, np.append(rows, len(labels)))] = confusion.matrix
    return matrix
