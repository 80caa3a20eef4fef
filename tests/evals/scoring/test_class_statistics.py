"""What a bootstrap resamples for classification."""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring.class_statistics import CellStatistics, ClassStatistics, sample_of_classes
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


def test_groups_of_rows_have_the_totals_of_their_rows() -> None:
    """The cells of groups, drawn and taken, beside one unit per row that is drawn with its group."""
    generator = np.random.default_rng(1)
    gold, predicted = generator.integers(0, 3, 40), generator.integers(0, 4, 40)
    groups = generator.integers(0, 9, 40).tolist()
    sample = sample_of_classes(("a", "b", "c"), gold, predicted, groups)
    weights = generator.integers(0, 4, (5, len(sample.units.counts)))
    of_rows = CellStatistics(("a", "b", "c"), gold, predicted).totals(weights[:, sample.units.unit_of_row])
    order = generator.permutation(len(sample.units.counts))
    taken = sample.statistics.take(order).totals(weights[:, order])
    for name in ("tp", "predicted", "support"):
        expected = getattr(of_rows, name)
        assert np.array_equal(getattr(sample.statistics.totals(weights), name), expected), name
        assert np.array_equal(getattr(taken, name), expected), name
