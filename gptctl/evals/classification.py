"""The classification report: every metric asked for, with its interval, per class, and the matrix it all comes from."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gptctl.core import plugins
from gptctl.core.errors import DataError
from gptctl.evals import intervals
from gptctl.evals.averages import Average, Averaging, Over, ZeroDivision
from gptctl.evals.confusion import Confusion
from gptctl.evals.intervals import Interval

METRICS = "gptctl.evals.metrics"
PER_CLASS = ("precision", "recall", "f1")


def report(
    confusion: Confusion,
    metrics: Sequence[str],
    average: Average = "macro",
    positive: str | None = None,
    zero_division: ZeroDivision = 0.0,
    interval: bool = True,
    seed: int = 0,
    over: Over = "present",
) -> dict[str, Any]:
    """Give everything known about the predictions, ready for strict JSON (None instead of NaN).

    Keys: n, invalid, average, positive (if given), one per metric, per_class {label: {precision, recall, f1, support}},
    confusion {labels, matrix (k x k, rows are gold), invalid (k)}, intervals {metric: [low, high] or None, at 95 %},
    absent (classes in neither gold nor predictions) and warnings (sentences).
    Raises UsageError for an unknown metric or average, "binary" without `positive`, and a `positive` outside the label
    set; DataError for 0 rows.
    """
    averaging = Averaging(average, positive, zero_division, over)
    chosen = {name: plugins.load(METRICS, name) for name in dict.fromkeys(metrics)}
    if confusion.n == 0:
        raise DataError("0 rows to score", "check that the input holds predictions")
    if positive is not None:
        averaging.index(confusion.labels)
    options = (average, positive, zero_division, over)
    return {
        "n": confusion.n,
        "invalid": confusion.invalid,
        "average": average,
        **({"positive": str(positive)} if positive is not None else {}),
        **{name: metric.value(confusion, *options) for name, metric in chosen.items()},
        "per_class": _per_class(confusion, zero_division),
        "confusion": {
            "labels": list(confusion.labels),
            "matrix": confusion.matrix[:, :-1].tolist(),
            "invalid": confusion.matrix[:, -1].tolist(),
        },
        "intervals": _intervals(confusion, chosen, averaging, seed) if interval else {},
        "absent": confusion.absent(),
        "warnings": [line for metric in chosen.values() for line in metric.warnings(confusion, averaging)],
    }


def _per_class(confusion: Confusion, zero_division: ZeroDivision) -> dict[str, dict[str, float | int | None]]:
    columns = {name: plugins.load(METRICS, name).per_class(confusion, zero_division) for name in PER_CLASS}
    support = confusion.sums().support
    return {
        label: {name: column[label] for name, column in columns.items()} | {"support": int(rows)}
        for label, rows in zip(confusion.labels, support, strict=True)
    }


def _intervals(
    confusion: Confusion, metrics: dict[str, ModuleType], averaging: Averaging, seed: int
) -> dict[str, list[float] | None]:
    """Use a metric's own interval where it has one, else the bootstrap, in the order of the metrics."""
    drawn = {
        name: lambda sums, metric=metric: metric.estimate(sums, averaging)
        for name, metric in metrics.items()
        if not hasattr(metric, "interval")
    }
    found: dict[str, Interval | None] = intervals.bootstraps(confusion, drawn, seed=seed) if drawn else {}
    for name in metrics.keys() - drawn.keys():
        found[name] = metrics[name].interval(confusion)
    return {name: None if found[name] is None else list(found[name] or ()) for name in metrics}
