"""95 % confidence intervals: how far a score would move on other rows of the same kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from gptctl.core.seeds import derive
from gptctl.evals.averages import Floats
from gptctl.evals.confusion import Confusion, Integers, Sums

Interval: TypeAlias = tuple[float, float]
Estimate: TypeAlias = Callable[[Sums], Floats]

Z = 1.959963984540054  # the normal distribution's 97.5 % point
PERCENTILES = (2.5, 97.5)
CHUNK_CELLS = 2**22  # drawn cells held at once: 32 MiB


def wilson(k: int, n: int) -> Interval:
    """Give the interval of a proportion of k right in n (Wilson 1927); (0, 1) for n = 0, which says nothing."""
    if n == 0:
        return 0.0, 1.0
    share, spread = k / n, Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    return (0.0 if k == 0 else middle - half), (1.0 if k == n else middle + half)


def bootstrap(confusion: Confusion, metric: Estimate, resamples: int = 10_000, seed: int = 0) -> Interval | None:
    """Give the percentile interval of a metric, such as `lambda sums: f1.estimate(sums, Averaging())`.

    It maps Sums (R, k) to values (R,). None where no resample has a value.
    """
    return bootstraps(confusion, {"": metric}, resamples, seed)[""]


def bootstraps(
    confusion: Confusion, metrics: Mapping[str, Estimate], resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval | None]:
    """Give the percentile interval of several metrics from the same resamples (Efron 1979).

    Drawing n rows with replacement is drawing the matrix's cells from a multinomial distribution, so no row is touched:
    10,000 resamples of 6 classes take 30 ms for any number of rows. Resamples without a value (NaN) are left out.
    """
    values: dict[str, list[Floats]] = {name: [] for name in metrics}
    for sums in _resamples(confusion, resamples, seed):
        for name, metric in metrics.items():
            values[name].append(metric(sums))
    return {name: _percentiles(np.concatenate(parts)) if parts else None for name, parts in values.items()}


def _percentiles(values: Floats) -> Interval | None:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None
    low, high = np.percentile(defined, PERCENTILES)
    return float(low), float(high)


def _resamples(confusion: Confusion, resamples: int, seed: int) -> Iterator[Sums]:
    """Draw matrices of the same n, in chunks of R; only cells that hold a row are drawn (R, cells), sorted by gold."""
    gold, predicted = np.nonzero(confusion.matrix)
    if not gold.size:
        return
    k = len(confusion.labels)
    shares = confusion.matrix[gold, predicted] / confusion.n
    by_prediction = np.argsort(predicted, kind="stable")
    right = np.flatnonzero(gold == predicted)
    generator = np.random.default_rng(derive(seed, "bootstrap"))
    rows = max(1, CHUNK_CELLS // max(gold.size, k))
    for start in range(0, resamples, rows):
        cells = generator.multinomial(confusion.n, shares, size=min(rows, resamples - start))
        yield Sums(
            confusion.labels,
            _add_up(cells[:, right], gold[right], k),
            _add_up(cells[:, by_prediction], predicted[by_prediction], k + 1)[:, :k],
            _add_up(cells, gold, k),
        )


def _add_up(cells: Integers, groups: Integers, k: int) -> Integers:
    """Sum the columns of `cells` (R, cells) that share a group, groups ascending, into (R, k)."""
    sums = np.zeros((len(cells), k), np.int64)
    if groups.size:
        present, starts = np.unique(groups, return_index=True)
        sums[:, present] = np.add.reduceat(cells, starts, axis=1)
    return sums
