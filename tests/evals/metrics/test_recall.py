"""Recall."""

from __future__ import annotations

import pytest

from gptctl.evals.averages import Averaging
from gptctl.evals.confusion import count
from gptctl.evals.metrics import recall


@pytest.mark.parametrize(("average", "value"), [("macro", 0.6556), ("micro", 0.7), ("weighted", 0.7)])
def test_averages(average: str, value: float) -> None:
    assert recall.value(count("aaaaabbbcc", "aaaabbbacb"), average) == pytest.approx(value, abs=5e-5)


def test_invalid_predictions_lower_recall() -> None:
    assert recall.per_class(count("AAB", "AzB", "AB")) == {"A": 0.5, "B": 1.0}


def test_a_class_without_gold_rows() -> None:
    confusion = count("00", "01")
    assert recall.value(confusion) == 0.25
    assert recall.warnings(confusion, Averaging()) == ["recall is 0/0 for class '1': counted as 0"]
