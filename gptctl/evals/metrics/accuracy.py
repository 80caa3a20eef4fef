"""Accuracy: the share of rows whose prediction is the gold label. Invalid predictions count as wrong."""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.averages import divide
from gptctl.evals.scoring.confusion import ClassCounts
from gptctl.evals.stats.intervals import Interval, wilson

PREDICTION_TYPES = ("labels", "choices")


def compute(counts: ClassCounts) -> FloatArray:
    """Return the accuracy of each matrix (...)."""
    return divide(counts.tp.sum(axis=-1), counts.support.sum(axis=-1), np.nan)


def confidence_interval(counts: ClassCounts) -> Interval:
    """Return the 95 % interval of a proportion."""
    return wilson(int(counts.tp.sum()), int(counts.support.sum()))
