"""F1."""

from __future__ import annotations

import pytest

from gptctl.core.errors import UsageError
from gptctl.evals.metrics import f1
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.confusion import confusion_matrix
from tests.evals.metrics.values import value, warnings_of


@pytest.mark.parametrize(("average", "expected"), [("macro", 0.6794), ("micro", 0.7), ("weighted", 0.7048)])
def test_macro_is_the_mean_of_f1_not_f1_of_the_means(average: str, expected: float) -> None:
    assert value(f1, confusion_matrix("aaaaabbbcc", "aaaabbbacb"), average) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("zero_division", [0.0, 1.0, "nan"])
def test_it_is_0_where_only_precision_is_0_over_0(zero_division: float) -> None:
    confusion = confusion_matrix("0011", "0000")
    assert value(f1, confusion, zero_division=zero_division) == pytest.approx(1 / 3)
    assert warnings_of(f1, confusion, Averaging(zero_division=zero_division)) == []


def test_invalid_predictions() -> None:
    confusion = confusion_matrix("ABAB", "ABAz", "AB")
    assert value(f1, confusion) == pytest.approx(0.8333, abs=5e-5)
    assert value(f1, confusion, "micro") == pytest.approx(0.8571, abs=5e-5)


def test_absent_classes_count_only_if_asked_for() -> None:
    confusion = confusion_matrix("0011", "0111", "012")
    assert value(f1, confusion) == pytest.approx(0.7333, abs=5e-5)
    assert value(f1, confusion, macro_over="all") == pytest.approx(0.4889, abs=5e-5)
    assert warnings_of(f1, confusion, Averaging(macro_over="all")) == ["f1 is 0/0 for class '2': counted as 0"]


def test_binary() -> None:
    confusion = confusion_matrix("11100000", "10010000")
    assert value(f1, confusion, "binary", "1") == pytest.approx(0.4)
    assert value(f1, confusion, "binary", "0") == pytest.approx(0.7273, abs=5e-5)
    assert value(f1, confusion) == pytest.approx(0.5636, abs=5e-5)
    with pytest.raises(UsageError, match="positive label"):
        value(f1, confusion, "binary")
