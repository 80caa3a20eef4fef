"""Matthews' correlation of gold and prediction, for any number of classes: 1 is perfect, 0 is chance.

Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient" (R_K). An invalid
prediction counts as one more class that gold never has.
"""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.confusion import Sums

KINDS = ("labels",)


def estimate(sums: Sums) -> Floats:
    """Return the correlation (...); 0 where gold or prediction has one class only, as scikit-learn has it."""
    gold, predicted = sums.support.astype(np.float64), sums.predicted.astype(np.float64)
    n = gold.sum(-1)
    invalid = n - predicted.sum(-1)
    covariance = sums.tp.sum(-1) * n - (gold * predicted).sum(-1)
    spread = (n**2 - (gold**2).sum(-1)) * (n**2 - (predicted**2).sum(-1) - invalid**2)
    found = np.zeros_like(covariance)
    np.divide(covariance, np.sqrt(spread), out=found, where=spread > 0)
    return np.where(n > 0, found, np.nan)
