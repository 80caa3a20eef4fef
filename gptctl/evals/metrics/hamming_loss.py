"""Hamming loss: the share of wrong decisions among all pairs of a row and a label."""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.multilabel import LabelIndicators

PREDICTION_TYPES = ("multilabel",)
LOWER_IS_BETTER = True


def row_statistics(data: LabelIndicators) -> FloatArray:
    """Return the wrong decisions of each row, and the number of labels."""
    wrong = (data.gold != data.predicted).sum(axis=1)
    return np.stack((wrong, np.full(len(wrong), len(data.labels))), axis=1).astype(np.float64)


def compute(totals: FloatArray) -> FloatArray:
    """Return the share; 0 if there are no labels."""
    return np.asarray(totals[..., 0] / np.maximum(totals[..., 1], 1))
