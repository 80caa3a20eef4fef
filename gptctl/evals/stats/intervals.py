"""95 % confidence intervals: how much a score would vary on other rows of the same kind."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from gptctl.evals.array_types import FloatArray

Interval: TypeAlias = tuple[float, float]

Z = 1.959963984540054  # the 97.5 % point of the normal distribution
PERCENTILES = (2.5, 97.5)


def wilson(k: int, n: int) -> Interval:
    """Return the interval of a proportion, k correct of n (Wilson 1927). It is (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = k / n, Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    return (0.0 if k == 0 else middle - half), (1.0 if k == n else middle + half)


def percentile_interval(values: FloatArray) -> Interval | None:
    """Return the percentile interval of a metric's finite values in the resamples; None if there are none."""
    defined = values[np.isfinite(values)]
    if not defined.size:
        return None
    low, high = np.percentile(defined, PERCENTILES)
    return float(low), float(high)
