"""Brier score: the mean over rows of the sum over labels of (probability - 1 if gold else 0)^2 (Brier 1950).

For two labels it is twice scikit-learn's brier_score_loss, which scores one of them.
"""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.calibration import Probabilities

PREDICTION_TYPES = ("labels",)
LOWER_IS_BETTER = True


def row_statistics(data: Probabilities) -> FloatArray:
    """Return the squared distance of each row, and 1."""
    one_hot = np.zeros_like(data.probs)
    one_hot[np.arange(len(data.gold)), data.gold] = 1
    return np.stack((((data.probs - one_hot) ** 2).sum(1), np.ones(len(data.gold))), axis=1)


def compute(totals: FloatArray) -> FloatArray:
    """Return the mean over the rows."""
    return np.asarray(totals[..., 0] / totals[..., 1])
