"""Accuracy."""

from __future__ import annotations

from gptctl.evals.averages import Averaging
from gptctl.evals.confusion import count
from gptctl.evals.metrics import accuracy


def test_invalid_predictions_are_wrong_ones() -> None:
    assert accuracy.value(count("ABAB", "ABAz", "AB")) == 0.75


def test_no_rows_have_no_accuracy_rather_than_nan() -> None:
    assert accuracy.value(count([], [])) is None


def test_per_class() -> None:
    assert accuracy.per_class(count("aab", "abb")) == {"a": 0.5, "b": 1.0}


def test_nothing_to_warn_of() -> None:
    assert accuracy.warnings(count("a", "b"), Averaging()) == []
