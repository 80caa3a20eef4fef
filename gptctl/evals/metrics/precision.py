"""Precision: the share of predictions of a class that are correct, true positives / predictions."""

from __future__ import annotations

from gptctl.evals.scoring.averages import Fraction
from gptctl.evals.scoring.confusion import ClassCounts

PREDICTION_TYPES = ("labels", "multilabel")


def class_fraction(counts: ClassCounts) -> Fraction:
    """Return the fraction of each class; it is 0/0 for a class that is never predicted."""
    return counts.tp, counts.predicted
