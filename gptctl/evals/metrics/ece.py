"""Expected calibration error: how far confidence and accuracy are apart, weighted by the rows of each bin.

Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3: bins of equal width on the highest probability.
"""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.calibration import Probabilities

KINDS = ("labels",)
LOWER_IS_BETTER = True


def statistics(data: Probabilities) -> Floats:
    """Give each row's confidence minus its being right, in the column of its bin, and a last column of ones."""
    found = np.zeros((len(data.gold), data.bins + 1))
    found[np.arange(len(data.gold)), data.bin_of()] = data.probs.max(axis=1) - data.right()
    found[:, -1] = 1
    return found


def estimate(totals: Floats) -> Floats:
    """Return sum over bins |confidence - accuracy| n_bin / n, in which n_bin cancels."""
    return np.asarray(np.abs(totals[..., :-1]).sum(-1) / totals[..., -1])
