"""Count gold labels against predictions: one integer matrix is all that a classification metric needs.

Counts of several shards or ranks merge by addition, so the result is exact and does not depend on their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import DataError, UsageError
from gptctl.io.input.predictions import text_of

Integers: TypeAlias = npt.NDArray[np.int64]
Label: TypeAlias = str | int | float | None

SHOWN = 10  # labels named in an error message


@dataclass(frozen=True)
class Sums:
    """Per-class totals, each (..., k): any leading axes hold several matrices at once, such as resamples."""

    labels: tuple[str, ...]
    tp: Integers
    predicted: Integers
    support: Integers

    def present(self) -> npt.NDArray[np.bool_]:
        """Tell which classes occur in gold or among the predictions (..., k)."""
        present: npt.NDArray[np.bool_] = self.predicted + self.support > 0
        return present


@dataclass(frozen=True, eq=False)
class Confusion:
    """Rows are gold classes, columns predicted ones; the last column counts predictions that are none of the labels.

    `matrix` has shape (k, k + 1) for k labels, so its sum is the number of rows read: nothing is left out.
    """

    labels: tuple[str, ...]
    matrix: Integers

    @property
    def n(self) -> int:
        """Return the number of rows."""
        return int(self.matrix.sum())

    @property
    def invalid(self) -> int:
        """Return the number of predictions that are null or outside the label set; they count as wrong."""
        return int(self.matrix[:, -1].sum())

    def sums(self) -> Sums:
        """Return true positives, predictions and gold rows of each class, each (k,)."""
        square = self.matrix[:, :-1]
        return Sums(self.labels, np.diagonal(square).copy(), square.sum(axis=0), self.matrix.sum(axis=1))

    def absent(self) -> list[str]:
        """List the classes that are neither in gold nor predicted."""
        return [label for label, seen in zip(self.labels, self.sums().present(), strict=True) if not seen]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Confusion):
            return NotImplemented
        return self.labels == other.labels and bool(np.array_equal(self.matrix, other.matrix))

    def __add__(self, other: Confusion) -> Confusion:
        """Merge two counts. Where their labels differ (each saw its own) the result has the sorted union of both."""
        if self.labels == other.labels:
            return Confusion(self.labels, self.matrix + other.matrix)
        labels = tuple(sorted({*self.labels, *other.labels}))
        return Confusion(labels, _spread(self, labels) + _spread(other, labels))


def count(gold: Sequence[Label], pred: Sequence[Label], labels: Sequence[Label] | None = None) -> Confusion:
    """Count each pair of gold and predicted label.

    Labels are compared as strings, so 1, 1.0 and "1" are equal. Without `labels` the set is the sorted union of all
    labels seen. Raises DataError where a gold label is null or not in the set, with its row counted from 1, and where
    the two columns differ in length; UsageError where `labels` names a label twice.
    """
    if len(gold) != len(pred):
        raise DataError(f"{len(gold)} labels but {len(pred)} predictions", "give one prediction for each row")
    truth, guesses = as_texts(gold), as_texts(pred)
    pairs = Counter(zip(truth, guesses, strict=True))
    if labels is None:
        known = tuple(sorted({label for pair in pairs for label in pair if label is not None}))
    else:
        known = tuple(str(text_of(label)) for label in labels)
    place = {label: index for index, label in enumerate(known)}
    if len(place) < len(known):
        twice = next(label for label, times in Counter(known).items() if times > 1)
        raise UsageError(f"label '{twice}' is given twice", "name each label once")
    if any(label not in place for label, _ in pairs):
        raise _bad_row(truth, known)
    matrix = np.zeros((len(known), len(known) + 1), np.int64)
    for (label, guess), times in pairs.items():
        column = len(known) if guess is None else place.get(guess, len(known))
        matrix[place[str(label)], column] += times
    return Confusion(known, matrix)


def as_texts(values: Sequence[Label]) -> list[str | None]:
    """Return labels as they are compared."""
    return [value if isinstance(value, str) else text_of(value) for value in values]


def _bad_row(truth: Sequence[str | None], known: Sequence[str]) -> DataError:
    """Name the first row whose gold label is null or unknown."""
    row, label = next((row, label) for row, label in enumerate(truth, 1) if label is None or label not in known)
    if label is None:
        return DataError(f"row {row}: the label is null", "give every row a label, or remove the row")
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return DataError(
        f"row {row}: label '{label}' is not in the label set ({', '.join(known[:SHOWN])}{more})",
        "correct the row, or add the label with --labels",
    )


def _spread(confusion: Confusion, labels: tuple[str, ...]) -> Integers:
    """Place a matrix in that of a larger label set."""
    rows = np.array([labels.index(label) for label in confusion.labels], np.int64)
    matrix = np.zeros((len(labels), len(labels) + 1), np.int64)
    matrix[np.ix_(rows, np.append(rows, len(labels)))] = confusion.matrix
    return matrix
