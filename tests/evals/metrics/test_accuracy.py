"""Accuracy."""

from __future__ import annotations

from gptctl.evals.metrics import accuracy
from gptctl.evals.scoring.confusion import count
from tests.evals.metrics.values import value


def test_invalid_predictions_are_wrong_ones() -> None:
    assert value(accuracy, count("ABAB", "ABAz", "AB")) == 0.75


def test_no_rows_have_no_accuracy_rather_than_nan() -> None:
    assert value(accuracy, count([], [])) is None


def test_its_interval_is_wilsons() -> None:
    assert accuracy.interval(count("aaab", "aaaa").sums())[1] < 1
