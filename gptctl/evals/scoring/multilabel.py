"""Rows with several labels as indicator matrices, as in scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gptctl.core.errors import DataError
from gptctl.evals.array_types import BoolArray
from gptctl.evals.scoring.confusion import ClassCounts, label_texts
from gptctl.io.input.predictions import Rows

SHOWN = 10  # labels listed in an error message


@dataclass(frozen=True, eq=False)
class LabelIndicators:
    """Which labels each row has and which were predicted, both bool (N, k).

    `invalid` (N,) marks rows with a prediction outside the label set. That prediction counts for no class, and the row
    is not correct.
    """

    labels: tuple[str, ...]
    gold: BoolArray
    predicted: BoolArray
    invalid: BoolArray

    def class_counts(self) -> ClassCounts:
        """Return the counts of each row and class, (N, k)."""
        counts = (self.gold & self.predicted, self.predicted, self.gold)
        return ClassCounts(self.labels, *(values.astype(np.int64) for values in counts))

    def correct(self) -> BoolArray:
        """Return for each row whether its predicted labels are exactly its labels (N,)."""
        return np.asarray((self.gold == self.predicted).all(axis=1) & ~self.invalid)


def label_indicators(rows: Rows, labels: Sequence[str] | None) -> LabelIndicators:
    """Read the lists of labels. Raises DataError for a gold label outside the label set."""
    gold = [set(label_texts(row["label"])) for row in rows]
    predicted = [set(label_texts(row["pred"] or [])) for row in rows]
    known = tuple(labels or sorted({str(label) for labels in (*gold, *predicted) for label in labels}))
    index_of = {label: index for index, label in enumerate(known)}
    gold_matrix, predicted_matrix = (np.zeros((len(rows), len(known)), np.bool_) for _ in range(2))
    invalid = np.array([row["pred"] is None for row in rows], np.bool_)
    for number, (gold_labels, predicted_labels) in enumerate(zip(gold, predicted, strict=True)):
        for label in gold_labels:
            if label not in index_of:
                raise DataError(
                    f"row {number + 1}: label '{label}' is not in the label set ({', '.join(known[:SHOWN])})",
                    "correct the row, or add the label with --labels",
                )
            gold_matrix[number, index_of[label]] = True
        for label in predicted_labels:
            if label in index_of:
                predicted_matrix[number, index_of[label]] = True
            else:
                invalid[number] = True
    return LabelIndicators(known, gold_matrix, predicted_matrix, invalid)
