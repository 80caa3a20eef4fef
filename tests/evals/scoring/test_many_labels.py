"""A label for every row, as where a column of ids was named: little memory, right figures, and a warning."""

from __future__ import annotations

import tracemalloc

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from gptctl.evals.metrics import select
from gptctl.evals.scoring.classification import classification_metrics
from gptctl.evals.scoring.confusion import confusion_matrix as count
from gptctl.evals.scoring.options import ScoringOptions

METRICS = ("accuracy", "precision", "recall", "f1")


def labels(rows: int) -> tuple[list[str], list[str]]:
    """Return ids, and predictions of which a third is wrong."""
    return [f"id{n}" for n in range(rows)], [f"id{n if n % 3 else (n + 1) % rows}" for n in range(rows)]


def test_ids_as_labels_take_little_memory() -> None:
    """The dense matrix would have 7 GB."""
    gold, predicted = labels(30_000)
    tracemalloc.start()
    found = classification_metrics(count(gold, predicted), select(METRICS, "labels"), ScoringOptions())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert "30,000 labels in 30,000 rows" in found.warnings[0] and "ids" in found.warnings[0]
    details = found.details["confusion"]
    assert len(details["cells"]) == 30_000 and "matrix" not in details
    values = found.groups[0].values
    assert values["accuracy"] == accuracy_score(gold, predicted)
    expected = precision_recall_fscore_support(gold, predicted, average="macro", zero_division=0)[:3]
    assert np.allclose([values[name] for name in METRICS[1:]], expected)


def test_cells_are_the_matrix_of_scikit_learn() -> None:
    gold, predicted = labels(1_200)
    found = classification_metrics(count(gold, predicted), select(METRICS, "labels"), ScoringOptions())
    details = found.details["confusion"]
    matrix = np.zeros((1_200, 1_200), np.int64)
    for row, column, rows in details["cells"]:
        matrix[row, column] = rows
    assert np.array_equal(matrix, confusion_matrix(gold, predicted, labels=details["labels"]))
    few = classification_metrics(count(gold[:9] * 9, predicted[:9] * 9), select(METRICS, "labels"), ScoringOptions())
    assert not any("labels in" in words for words in few.warnings) and "matrix" in few.details["confusion"]
