"""Confidence intervals."""

from __future__ import annotations

import numpy as np
import pytest

from gptctl.evals.metrics import accuracy, f1
from gptctl.evals.scoring.averages import Averaging, average_classes
from gptctl.evals.scoring.class_statistics import sample_of_matrix
from gptctl.evals.scoring.confusion import ClassCounts, ConfusionMatrix, confusion_matrix
from gptctl.evals.stats import resampling
from gptctl.evals.stats.intervals import Interval, percentile_interval, wilson
from gptctl.evals.stats.resampling import Estimator
from tests.evals.metrics.values import value

TEN = confusion_matrix("aaaaabbbcc", "aaaabbbacb")


def accuracy_of(counts: ClassCounts) -> np.ndarray:
    return accuracy.compute(counts)


def f1_of(counts: ClassCounts) -> np.ndarray:
    return average_classes(f1.class_fraction(counts), counts, Averaging())


def bootstraps(
    confusion: ConfusionMatrix, estimators: dict[str, Estimator], resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval | None]:
    """Return the percentile intervals of several metrics of a confusion matrix."""
    values = resampling.bootstrap(sample_of_matrix(confusion), estimators, resamples, seed)
    return {name: percentile_interval(found) for name, found in values.items()}


def bootstrap(
    confusion: ConfusionMatrix, estimator: Estimator, resamples: int = 10_000, seed: int = 0
) -> Interval | None:
    """Return the percentile interval of one metric of a confusion matrix."""
    return bootstraps(confusion, {"": estimator}, resamples, seed)[""]


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [(90, 100, 0.8256, 0.9448), (10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (454, 500, 0.8795, 0.9303)],
)
def test_wilson(right: int, rows: int, low: float, high: float) -> None:
    assert wilson(right, rows) == pytest.approx((low, high), abs=5e-5)


def test_wilson_reaches_but_never_leaves_0_and_1() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    for rows in range(1, 200):
        assert wilson(0, rows)[0] == 0.0
        assert wilson(rows, rows)[1] == 1.0
        assert all(0 <= low < high <= 1 for low, high in (wilson(right, rows) for right in range(rows + 1)))


def test_bootstrap_of_ten_rows() -> None:
    assert bootstrap(TEN, accuracy_of) == (0.4, 1.0)
    low, high = bootstrap(TEN, f1_of) or (0.0, 0.0)
    assert low == pytest.approx(0.28, abs=0.02)
    assert high == 1.0


def test_it_equals_drawing_the_rows_themselves() -> None:
    generator = np.random.default_rng(5)
    gold = generator.integers(0, 3, 120)
    pred = np.where(generator.random(120) < 0.6, gold, generator.integers(0, 4, 120))
    by_rows = []
    for _ in range(1500):
        rows = generator.integers(0, 120, 120)
        by_rows.append(value(f1, confusion_matrix(gold[rows].tolist(), pred[rows].tolist(), "012")))
    expected = np.percentile(np.array(by_rows), [2.5, 97.5])
    assert bootstrap(confusion_matrix(gold.tolist(), pred.tolist(), "012"), f1_of) == pytest.approx(expected, abs=0.015)


def test_the_seed_decides() -> None:
    rows = confusion_matrix("abcabcabca" * 9, "abcbbcabcc" * 9)
    assert bootstrap(rows, f1_of, seed=3) == bootstrap(rows, f1_of, seed=3) != bootstrap(rows, f1_of, seed=4)


def test_all_metrics_see_the_same_resamples() -> None:
    found = bootstraps(TEN, {"accuracy": accuracy_of, "f1": f1_of}, 500, 1)
    assert found == {"accuracy": bootstrap(TEN, accuracy_of, 500, 1), "f1": bootstrap(TEN, f1_of, 500, 1)}


def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(TEN, f1_of, 1000)
    monkeypatch.setattr("gptctl.evals.stats.resampling.CHUNK_CELLS", 100)
    assert bootstrap(TEN, f1_of, 1000) == whole


def test_invalid_predictions_are_drawn_too() -> None:
    low, high = bootstrap(confusion_matrix("ab" * 50, ["a", None] * 50, "ab"), accuracy_of) or (0.0, 0.0)
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65


def test_nothing_to_draw_has_no_interval() -> None:
    assert bootstrap(confusion_matrix([], [], "ab"), f1_of) is None
    assert bootstrap(confusion_matrix("aa", [None, None], "a"), lambda counts: np.full(len(counts.tp), np.nan)) is None


def test_many_rows_are_drawn_at_once() -> None:
    """A draw is one of the table, whatever it counts: ten thousand million rows, row by row, would not fit in memory."""
    large = ConfusionMatrix.from_matrix(TEN.labels, TEN.matrix * 1000)
    assert (bootstrap(large, accuracy_of) or (0.0, 0.0)) == pytest.approx((0.6909, 0.7089), abs=0.002)
    larger = ConfusionMatrix.from_matrix(TEN.labels, TEN.matrix * 10**9)
    assert (bootstrap(larger, accuracy_of) or (0.0, 0.0)) == pytest.approx((0.7, 0.7), abs=1e-4)
