"""Brier score: the mean over rows of the sum over labels of (probability - 1 if gold else 0)^2 (Brier 1950).

For two labels it is twice the score that looks at one of them only.
"""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.calibration import Probabilities

KINDS = ("labels",)
LOWER_IS_BETTER = True


def statistics(data: Probabilities) -> Floats:
    """Give each row's squared distance and 1."""
    wanted = np.zeros_like(data.probs)
    wanted[np.arange(len(data.gold)), data.gold] = 1
    return np.stack((((data.probs - wanted) ** 2).sum(1), np.ones(len(data.gold))), axis=1)


def estimate(totals: Floats) -> Floats:
    """Return the mean."""
    return np.asarray(totals[..., 0] / totals[..., 1])
