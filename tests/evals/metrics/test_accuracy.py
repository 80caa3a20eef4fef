"""Accuracy."""

from __future__ import annotations

from gptctl.evals.metrics import accuracy
from gptctl.evals.scoring.confusion import confusion_matrix
from tests.evals.metrics.values import value


def test_invalid_predictions_are_wrong_ones() -> None:
    assert value(accuracy, confusion_matrix("ABAB", "ABAz", "AB")) == 0.75


def test_no_rows_have_no_accuracy_rather_than_nan() -> None:
    assert value(accuracy, confusion_matrix([], [])) is None


def test_its_interval_is_wilsons() -> None:
    assert accuracy.confidence_interval(confusion_matrix("aaab", "aaaa").class_counts())[1] < 1
