"""Expected calibration error: the gap between confidence and accuracy, weighted by the rows of each bin.

Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3: bins of equal width on the highest probability.
"""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.calibration import Probabilities

PREDICTION_TYPES = ("labels",)
LOWER_IS_BETTER = True


def row_statistics(data: Probabilities) -> FloatArray:
    """Return each row's confidence, minus 1 if it is correct, in the column of its bin; the last column is 1."""
    gaps = np.zeros((len(data.gold), data.bins + 1))
    gaps[np.arange(len(data.gold)), data.bin_indices()] = data.probs.max(axis=1) - data.correct()
    gaps[:, -1] = 1
    return gaps


def compute(totals: FloatArray) -> FloatArray:
    """Return the sum over bins of |confidence - accuracy| n_bin / n, in which n_bin cancels."""
    return np.asarray(np.abs(totals[..., :-1]).sum(-1) / totals[..., -1])
