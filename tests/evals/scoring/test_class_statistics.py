"""What a bootstrap resamples for classification."""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring.class_statistics import CellStatistics, ClassStatistics
from gptctl.evals.scoring.confusion import ClassCounts


def test_cells_and_class_counts_have_the_same_totals() -> None:
    gold, predicted = np.array([0, 0, 1, 2, 2]), np.array([0, 3, 1, 1, 2])
    eye = np.eye(4, 3, dtype=np.int64)
    right = np.where((gold == predicted)[:, None], eye[gold], 0)
    weights = np.array([[1, 2, 0, 3, 1], [0, 0, 5, 1, 1]])
    one = CellStatistics(("a", "b", "c"), gold, predicted).totals(weights)
    other = ClassStatistics(ClassCounts(("a", "b", "c"), right, eye[predicted], eye[gold])).totals(weights)
    for name in ("tp", "predicted", "support"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
