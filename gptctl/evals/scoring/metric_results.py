"""The metrics of one set of rows: each with its value and a function that recomputes it from resampled totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gptctl.evals.array_types import BoolArray
from gptctl.evals.stats.intervals import Interval
from gptctl.evals.stats.resampling import Estimator, Sample


@dataclass(frozen=True)
class MetricGroup:
    """Metrics that are computed from the same totals.

    values: each metric on all rows. estimators: each metric as a function of totals. closed_form: the intervals that
    need no bootstrap.
    """

    sample: Sample
    values: dict[str, float | None]
    estimators: dict[str, Estimator]
    closed_form: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MetricResult:
    """All metrics of `n` rows.

    `summary` and `details` are further entries of the report, before and after the metrics. `correct` holds for each
    row (N,) whether its prediction is correct; None if a row cannot be correct or wrong.
    """

    n: int
    groups: tuple[MetricGroup, ...]
    summary: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    correct: BoolArray | None = None
    warnings: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, float | None]:
        """Return the metrics by name, in order."""
        return {name: value for group in self.groups for name, value in group.values.items()}
