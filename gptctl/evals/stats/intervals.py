"""95 % confidence intervals: how far a score would move on other rows of the same kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from gptctl.evals.scoring.confusion import Confusion
from gptctl.evals.stats.resampling import RESAMPLES, Cells, Estimate, Floats, Units, bootstrap_values

Interval: TypeAlias = tuple[float, float]

Z = 1.959963984540054  # the normal distribution's 97.5 % point
PERCENTILES = (2.5, 97.5)


def wilson(k: int, n: int) -> Interval:
    """Return the interval of a proportion of k right in n (Wilson 1927); (0, 1) for n = 0, which says nothing."""
    if n == 0:
        return 0.0, 1.0
    share, spread = k / n, Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    return (0.0 if k == 0 else middle - half), (1.0 if k == n else middle + half)


def percentiles(values: Floats) -> Interval | None:
    """Return the percentile interval of a metric's finite values in resamples; None where there is none."""
    defined = values[np.isfinite(values)]
    if not defined.size:
        return None
    low, high = np.percentile(defined, PERCENTILES)
    return float(low), float(high)


def bootstrap(confusion: Confusion, metric: Estimate, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Return the percentile interval of a metric, such as `lambda sums: f1.estimate(sums, Averaging())`.

    It maps Sums (R, k) to values (R,). None where no resample has a value.
    """
    return bootstraps(confusion, {"": metric}, resamples, seed)[""]


def bootstraps(
    confusion: Confusion, metrics: Mapping[str, Estimate], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval | None]:
    """Return the percentile interval of several metrics from the same resamples."""
    units, cells = of_matrix(confusion)
    values = bootstrap_values(units, cells, metrics, resamples, seed)
    return {name: percentiles(found) for name, found in values.items()}


def of_matrix(confusion: Confusion) -> tuple[Units, Cells]:
    """Make units of the cells that hold a row; which rows those are is not known to a matrix."""
    gold, predicted = np.nonzero(confusion.matrix)
    return Units(np.empty(0, np.int64), confusion.matrix[gold, predicted]), Cells(confusion.labels, gold, predicted)
