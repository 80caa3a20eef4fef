"""What is measured on one set of rows: metrics as functions of totals, so that each can be resampled and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gptctl.core import plugins
from gptctl.core.errors import UsageError
from gptctl.evals.scoring.averages import number
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats import intervals
from gptctl.evals.stats.intervals import Interval
from gptctl.evals.stats.resampling import Estimate, Payload, Units, bootstrap_values, from_rows, resamples_for

Values: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[Values]
METRICS = "gptctl.evals.metrics"


@dataclass(frozen=True)
class Part:
    """Metrics that are computed from the same totals. `closed`: intervals that need no bootstrap."""

    units: Units
    payload: Payload
    values: dict[str, float | None]
    estimates: dict[str, Estimate]
    closed: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything known about `n` rows. `head` and `tail` are further entries of the report, before and after metrics.

    `right` tells for each row (N,) whether the answer is right, where that is a question.
    """

    n: int
    parts: tuple[Part, ...]
    head: Values = field(default_factory=dict)
    tail: Values = field(default_factory=dict)
    right: npt.NDArray[np.bool_] | None = None
    warnings: tuple[str, ...] = ()

    def value(self, metric: str) -> float | None:
        """Return one metric."""
        return next(part.values[metric] for part in self.parts if metric in part.values)

    def names(self) -> list[str]:
        """List the metrics, in order."""
        return [name for part in self.parts for name in part.values]


def report(measured: Measured, options: Options) -> Values:
    """Return the measurements as strict JSON: None instead of NaN, 95 % intervals, and how those were made."""
    found: dict[str, list[float] | None] = {}
    methods: dict[str, str] = {}
    resamples = 0
    for part in measured.parts:
        closed = part.closed if options.ci == "auto" and not part.units.grouped else {}
        drawn = {name: estimate for name, estimate in part.estimates.items() if name not in closed}
        if options.ci == "none":
            continue
        count = resamples_for(len(part.units.counts))
        values = bootstrap_values(part.units, part.payload, drawn, count, options.seed) if drawn else {}
        resamples = max(resamples, count if drawn else 0)
        for name in part.estimates:
            bounds = closed[name] if name in closed else intervals.percentiles(values[name])
            found[name] = None if bounds is None else list(bounds)
            methods[name] = "wilson" if name in closed else "groups" if part.units.grouped else "bootstrap"
    about = {"level": 0.95, "methods": methods, "resamples": resamples, "seed": options.seed}
    return {
        "n": measured.n,
        **measured.head,
        **{name: value for part in measured.parts for name, value in part.values.items()},
        **measured.tail,
        "intervals": {name: found[name] for name in measured.names() if name in found},
        "interval": about if found else {},
        "warnings": list(measured.warnings),
    }


def chosen(options: Options, kind: str, defaults: Sequence[str]) -> dict[str, ModuleType]:
    """Load the metrics that were asked for, or the defaults of this kind of rows.

    Raises UsageError (2) for an unknown metric, and for one that this kind of rows does not have.
    """
    loaded = {name: plugins.load(METRICS, name) for name in dict.fromkeys(options.metrics or defaults)}
    for name, module in loaded.items():
        if kind not in module.KINDS:
            fit = [other for other in plugins.names(METRICS) if kind in plugins.load(METRICS, other).KINDS]
            raise UsageError(
                f"{name} is not defined for {kind.replace('_', ' ')}", f"metrics of such rows: {', '.join(fit)}"
            )
    return loaded


def additive(modules: dict[str, ModuleType], data: Any, groups: Sequence[Any] | None) -> Part:
    """Measure metrics that are functions of sums over rows: each module gives its statistics of each row, (N, S)."""
    columns = {name: np.asarray(module.statistics(data), np.float64) for name, module in modules.items()}
    ends = np.cumsum([0, *(values.shape[1] for values in columns.values())])
    places = {name: slice(int(ends[i]), int(ends[i + 1])) for i, name in enumerate(columns)}
    together = np.concatenate(list(columns.values()), axis=1)
    units, payload = from_rows(together, groups)
    # exactly rounded sums: the order of rows, and how they were put into shards, changes no digit
    totals = {name: exact_sums(values) for name, values in columns.items()}
    return Part(
        units,
        payload,
        {name: number(module.estimate(totals[name])) for name, module in modules.items()},
        {name: part_of(module, places[name]) for name, module in modules.items()},
        {name: module.interval(totals[name]) for name, module in modules.items() if hasattr(module, "interval")},
    )


def part_of(module: ModuleType, place: slice) -> Estimate:
    """Return a metric's estimate as a function of the totals of all metrics."""
    return lambda totals: module.estimate(totals[..., place])


def exact_sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum each column without rounding errors (Shewchuk 1997): (N, S) to (S,)."""
    return np.array([fsum(column) for column in values.T.tolist()])


def groups_of(rows: Rows) -> list[Any] | None:
    """Give each row's `group_id` where all rows have one."""
    if not rows or any(row.get("group_id") is None for row in rows):
        return None
    return [row["group_id"] for row in rows]
