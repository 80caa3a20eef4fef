"""Recall."""

from __future__ import annotations

import pytest

from gptctl.evals.metrics import recall
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.confusion import confusion_matrix
from tests.evals.metrics.values import per_class, value, warnings_of


@pytest.mark.parametrize(("average", "expected"), [("macro", 0.6556), ("micro", 0.7), ("weighted", 0.7)])
def test_averages(average: str, expected: float) -> None:
    assert value(recall, confusion_matrix("aaaaabbbcc", "aaaabbbacb"), average) == pytest.approx(expected, abs=5e-5)


def test_invalid_predictions_lower_recall() -> None:
    assert per_class(recall, confusion_matrix("AAB", "AzB", "AB")) == {"A": 0.5, "B": 1.0}


def test_a_class_without_gold_rows() -> None:
    confusion = confusion_matrix("00", "01")
    assert value(recall, confusion) == 0.25
    assert warnings_of(recall, confusion, Averaging()) == ["recall is 0/0 for class '1': counted as 0"]
