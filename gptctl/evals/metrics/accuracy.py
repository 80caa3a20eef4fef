"""The share of rows whose prediction is the gold label; invalid predictions are wrong ones."""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring import averages
from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.confusion import Sums
from gptctl.evals.stats import intervals

KINDS = ("labels", "choices")


def estimate(sums: Sums) -> Floats:
    """Return the accuracy of each matrix (...)."""
    return averages.ratio(sums.tp.sum(axis=-1), sums.support.sum(axis=-1), np.nan)


def interval(sums: Sums) -> tuple[float, float]:
    """Return the 95 % interval of a proportion."""
    return intervals.wilson(int(sums.tp.sum()), int(sums.support.sum()))
