"""The share of rows whose predicted labels are exactly the gold labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gptctl.evals.scoring.averages import Floats
from gptctl.evals.stats import intervals

if TYPE_CHECKING:
    from gptctl.evals.prediction_types.label_sets import LabelSets

KINDS = ("label_sets",)


def statistics(data: LabelSets) -> Floats:
    """Return 1 for each row that is right, and 1."""
    right = data.right()
    return np.stack((right, np.ones(len(right))), axis=1).astype(np.float64)


def estimate(totals: Floats) -> Floats:
    """Return the share."""
    return np.asarray(totals[..., 0] / totals[..., 1])


def interval(totals: Floats) -> tuple[float, float]:
    """Return the 95 % interval of a proportion."""
    return intervals.wilson(int(totals[0]), int(totals[1]))
