"""Prediction types: what a row of predictions may hold, one file per type.

A prediction type is a module of the form `PredictionType`. It recognises its rows, checks them, and computes their
metrics.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

from gptctl.core import plugins
from gptctl.evals.scoring.metric_results import MetricResult
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.io.input.predictions import Rows

PACKAGE = "gptctl.evals.prediction_types"


@runtime_checkable
class PredictionType(Protocol):
    """What every prediction type has. `DEFAULT_METRICS` are computed if no metric is named."""

    DEFAULT_METRICS: tuple[str, ...]

    def matches(self, row: dict[str, Any]) -> bool:
        """Return whether a row is of this type, judged by its columns."""

    def row_error(self, row: dict[str, Any]) -> str | None:
        """Return what is wrong with a row, in words that follow "row 3"; None if nothing is."""

    def compute_metrics(self, rows: Rows, options: ScoringOptions) -> MetricResult:
        """Compute the metrics of rows that have no error."""


def load(name: str) -> PredictionType:
    """Load a prediction type."""
    return cast(PredictionType, plugins.load(PACKAGE, name))


def group_ids(rows: Rows) -> list[Any] | None:
    """Return the `group_id` of each row, or None unless every row has one."""
    if not rows or any(row.get("group_id") is None for row in rows):
        return None
    return [row["group_id"] for row in rows]
