"""Precision."""

from __future__ import annotations

import pytest

from gptctl.evals.metrics import precision
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.confusion import confusion_matrix
from tests.evals.metrics.values import per_class, value, warnings_of


@pytest.mark.parametrize(("average", "expected"), [("macro", 0.7667), ("micro", 0.7), ("weighted", 0.75)])
def test_averages(average: str, expected: float) -> None:
    assert value(precision, confusion_matrix("aaaaabbbcc", "aaaabbbacb"), average) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("zero_division", "expected"), [(0.0, 0.25), (1.0, 0.75), ("nan", 0.5)])
def test_a_class_that_is_never_predicted(zero_division: float, expected: float) -> None:
    confusion = confusion_matrix("0011", "0000")
    assert value(precision, confusion, zero_division=zero_division) == expected
    assert warnings_of(precision, confusion, Averaging(zero_division=zero_division))[0].startswith(
        "precision is 0/0 for class '1': "
    )


def test_undefined_everywhere_is_none() -> None:
    confusion = confusion_matrix("aa", [None, None], "a")
    assert value(precision, confusion, zero_division="nan") is None
    assert per_class(precision, confusion, "nan") == {"a": None}
