"""Recall: the share of rows of a class that are predicted correctly, true positives / gold rows."""

from __future__ import annotations

from gptctl.evals.scoring.averages import Fraction
from gptctl.evals.scoring.confusion import ClassCounts

PREDICTION_TYPES = ("labels", "multilabel")


def class_fraction(counts: ClassCounts) -> Fraction:
    """Return the fraction of each class; it is 0/0 for a class without gold rows."""
    return counts.tp, counts.support
