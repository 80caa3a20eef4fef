"""Negative log-likelihood of the gold labels, in nats per row: what a classifier is trained to lower."""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.calibration import Probabilities

KINDS = ("labels",)
LOWER_IS_BETTER = True
SMALLEST = float(np.finfo(np.float64).tiny)  # probability 0 of what happened counts as 708 nats, not as infinity


def statistics(data: Probabilities) -> Floats:
    """Give each row's -ln p(gold) and 1."""
    chance = data.probs[np.arange(len(data.gold)), data.gold]
    return np.stack((-np.log(np.maximum(chance, SMALLEST)), np.ones(len(chance))), axis=1)


def estimate(totals: Floats) -> Floats:
    """Return the mean."""
    return np.asarray(totals[..., 0] / totals[..., 1])
