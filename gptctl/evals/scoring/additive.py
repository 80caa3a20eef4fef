"""Metrics that are functions of sums over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.metrics import AdditiveMetric, Metric, closed_form_interval
from gptctl.evals.scoring.averages import finite_or_none
from gptctl.evals.scoring.metric_results import MetricGroup
from gptctl.evals.stats.resampling import Estimator, sample_of_rows


def additive_metrics(metrics: Mapping[str, Metric], data: Any, groups: Sequence[Any] | None) -> MetricGroup:
    """Compute the additive metrics among `metrics` from `data`. Rows with equal `groups` are resampled together."""
    additive = {name: metric for name, metric in metrics.items() if isinstance(metric, AdditiveMetric)}
    columns = {name: np.asarray(metric.row_statistics(data), np.float64) for name, metric in additive.items()}
    ends = np.cumsum([0, *(values.shape[1] for values in columns.values())])
    places = {name: slice(int(ends[i]), int(ends[i + 1])) for i, name in enumerate(columns)}
    # exactly rounded sums: the order of the rows, and how they were split into shards, changes no digit
    totals = {name: exact_sums(values) for name, values in columns.items()}
    intervals = {name: closed_form_interval(metric, totals[name]) for name, metric in additive.items()}
    return MetricGroup(
        sample_of_rows(np.concatenate(list(columns.values()), axis=1), groups),
        {name: finite_or_none(metric.compute(totals[name])) for name, metric in additive.items()},
        {name: estimator_of(metric, places[name]) for name, metric in additive.items()},
        {name: interval for name, interval in intervals.items() if interval is not None},
    )


def estimator_of(metric: AdditiveMetric, place: slice) -> Estimator:
    """Return a metric as a function of the totals of all metrics."""
    return lambda totals: metric.compute(totals[..., place])


def exact_sums(values: FloatArray) -> FloatArray:
    """Sum each column without rounding errors (Shewchuk 1997): (N, S) to (S,)."""
    return np.array([fsum(column) for column in values.T.tolist()])
