"""Negative log-likelihood of the gold labels in nats per row, the loss that a classifier is trained on.

For language models, `loss` is the same per token instead of per row.
"""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.calibration import Probabilities

PREDICTION_TYPES = ("labels",)
LOWER_IS_BETTER = True
SMALLEST = float(np.finfo(np.float64).tiny)  # a gold label with probability 0 counts as 708 nats, not as infinity


def row_statistics(data: Probabilities) -> FloatArray:
    """Return -ln p(gold) of each row, and 1."""
    probs = data.probs[np.arange(len(data.gold)), data.gold]
    return np.stack((-np.log(np.maximum(probs, SMALLEST)), np.ones(len(probs))), axis=1)


def compute(totals: FloatArray) -> FloatArray:
    """Return the mean over the rows."""
    return np.asarray(totals[..., 0] / totals[..., 1])
