"""The one scorer: whatever made the rows, a model of ours or any other system, they are checked and measured here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from gptctl.core import plugins
from gptctl.core.errors import DataError
from gptctl.evals.scoring import metric_results
from gptctl.evals.scoring.metric_results import METRICS, Measured, Rows, Values
from gptctl.evals.scoring.options import Options

KINDS = "gptctl.evals.prediction_types"


def kind_of(rows: Rows, metrics: Sequence[str], where: str) -> str:
    """Tell what the rows are: what the metrics that were asked for are defined for, else by their columns.

    Raises UsageError (2) for an unknown metric; DataError (3) where there is no row, or no kind has such columns.
    """
    if not rows:
        raise DataError(f"{where}: 0 rows", "a predictions file has one row per example: id, label, pred")
    wanted = {kind for name in metrics for kind in plugins.load(METRICS, name).KINDS}
    if wanted == {"texts"}:
        return "texts"
    for name in plugins.names(KINDS):
        if kind(name).matches(rows[0]):
            return name
    missing = "label" if "label" not in rows[0] else "pred"
    raise DataError(
        f"{where} has no column '{missing}' in row 1; it has: {', '.join(rows[0])}",
        "rows need label and pred; nats and bytes; or choices, loglik and label",
    )


def kind(name: str) -> ModuleType:
    """Load a kind of rows."""
    return plugins.load(KINDS, name)


def check(rows: Rows, name: str, where: str) -> None:
    """Raise DataError (3) for the first row that its kind cannot measure, with its number from 1."""
    module = kind(name)
    for number, row in enumerate(rows, start=1):
        if name != "nats" and "label" not in row:
            raise DataError(f"{where} has no column 'label' in row {number}; it has: {', '.join(row)}", "fill it")
        if problem := module.problem(row):
            raise DataError(f"{where}: row {number} {problem}", "fill, correct or remove it")


def measure(rows: Rows, name: str, options: Options) -> Measured:
    """Measure rows of a kind that were checked."""
    found: Measured = kind(name).measure(rows, options)
    return found


def score(rows: Rows, name: str, options: Options) -> Values:
    """Return the report of rows that were checked."""
    return metric_results.report(measure(rows, name, options), options)


def lower_is_better(metric: str) -> bool:
    """Return whether a small value of a metric is a good one; names that are no metrics' are taken for scores."""
    known = metric in plugins.names(METRICS)
    return known and bool(getattr(plugins.load(METRICS, metric), "LOWER_IS_BETTER", False))
