"""The report on one set of rows, as strict JSON: metrics, their intervals, and how the intervals were computed."""

from __future__ import annotations

from typing import Any, TypeAlias

from gptctl.evals.scoring.metric_results import MetricResult
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.stats.intervals import percentile_interval
from gptctl.evals.stats.resampling import bootstrap, resample_count

Report: TypeAlias = dict[str, Any]


def to_report(result: MetricResult, options: ScoringOptions) -> Report:
    """Return the metrics with 95 % intervals; None stands for NaN."""
    intervals: dict[str, list[float] | None] = {}
    methods: dict[str, str] = {}
    resamples = 0
    for group in result.groups if options.ci != "none" else ():
        units = group.sample.units
        closed_form = group.closed_form if options.ci == "auto" and not units.grouped else {}
        resampled = {name: estimator for name, estimator in group.estimators.items() if name not in closed_form}
        count = resample_count(len(units.counts))
        values = bootstrap(group.sample, resampled, count, options.seed) if resampled else {}
        resamples = max(resamples, count if resampled else 0)
        for name in group.estimators:
            bounds = closed_form[name] if name in closed_form else percentile_interval(values[name])
            intervals[name] = None if bounds is None else list(bounds)
            methods[name] = "wilson" if name in closed_form else "groups" if units.grouped else "bootstrap"
    about = {"level": 0.95, "methods": methods, "resamples": resamples, "seed": options.seed}
    return {
        "n": result.n,
        **result.summary,
        **result.values,
        **result.details,
        "intervals": {name: intervals[name] for name in result.values if name in intervals},
        "interval": about if intervals else {},
        "warnings": list(result.warnings),
    }
