"""Subset accuracy: the share of rows whose predicted labels are exactly the gold labels."""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.multilabel import LabelIndicators
from gptctl.evals.stats.intervals import Interval, wilson

PREDICTION_TYPES = ("multilabel",)


def row_statistics(data: LabelIndicators) -> FloatArray:
    """Return for each row 1 if it is correct, else 0, and 1."""
    correct = data.correct()
    return np.stack((correct, np.ones(len(correct))), axis=1).astype(np.float64)


def compute(totals: FloatArray) -> FloatArray:
    """Return the share."""
    return np.asarray(totals[..., 0] / totals[..., 1])


def confidence_interval(totals: FloatArray) -> Interval:
    """Return the 95 % interval of a proportion."""
    return wilson(int(totals[0]), int(totals[1]))
