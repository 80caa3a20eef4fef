"""Matthews correlation coefficient for any number of classes: 1 is perfect, 0 is chance.

Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient" (R_K). An invalid
prediction counts as an additional class that no gold label has.
"""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.confusion import ClassCounts

PREDICTION_TYPES = ("labels",)


def compute(counts: ClassCounts) -> FloatArray:
    """Return the correlation (...); 0 if there is only one gold or one predicted class, as in scikit-learn."""
    gold, predicted = counts.support.astype(np.float64), counts.predicted.astype(np.float64)
    n = gold.sum(-1)
    invalid = n - predicted.sum(-1)
    covariance = counts.tp.sum(-1) * n - (gold * predicted).sum(-1)
    variance = (n**2 - (gold**2).sum(-1)) * (n**2 - (predicted**2).sum(-1) - invalid**2)
    correlation = np.zeros_like(covariance)
    np.divide(covariance, np.sqrt(variance), out=correlation, where=variance > 0)
    return np.where(n > 0, correlation, np.nan)
