"""The share of rows whose prediction is the gold label; invalid predictions are wrong ones."""

from __future__ import annotations

import numpy as np

from gptctl.evals import averages, intervals
from gptctl.evals.averages import Floats
from gptctl.evals.confusion import Sums

KINDS = ("labels", "choices")


def estimate(sums: Sums) -> Floats:
    """Give the accuracy of each matrix (...)."""
    return averages.ratio(sums.tp.sum(axis=-1), sums.support.sum(axis=-1), np.nan)


def interval(sums: Sums) -> tuple[float, float]:
    """Give the 95 % interval of a proportion."""
    return intervals.wilson(int(sums.tp.sum()), int(sums.support.sum()))
