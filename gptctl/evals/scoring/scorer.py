"""Score rows of any prediction type. Rows of a model and of a predictions file are scored by the same code."""

from __future__ import annotations

from collections.abc import Sequence

from gptctl.core import plugins
from gptctl.core.errors import DataError
from gptctl.evals import metrics as metric_plugins
from gptctl.evals import prediction_types
from gptctl.evals.scoring.metric_results import MetricResult
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.report import Report, to_report
from gptctl.io.input.predictions import Rows


def detect_type(rows: Rows, metrics: Sequence[str], source: str) -> str:
    """Return the prediction type of rows: the one that the metrics are defined for, else the one of their columns.

    Raises UsageError (2) for an unknown metric. Raises DataError (3) if there is no row, or no type has such columns.
    """
    if not rows:
        raise DataError(f"{source}: 0 rows", "a predictions file has one row per example: id, label, pred")
    wanted = {prediction_type for name in metrics for prediction_type in metric_plugins.load(name).PREDICTION_TYPES}
    if wanted == {"texts"}:
        return "texts"
    for name in plugins.names(prediction_types.PACKAGE):
        if prediction_types.load(name).matches(rows[0]):
            return name
    missing = "label" if "label" not in rows[0] else "pred"
    raise DataError(
        f"{source} has no column '{missing}' in row 1; it has: {', '.join(rows[0])}",
        "rows need label and pred; nats and bytes; or choices, loglik and label",
    )


def check_rows(rows: Rows, prediction_type: str, source: str) -> None:
    """Raise DataError (3) for the first row that cannot be scored, with its number from 1."""
    plugin = prediction_types.load(prediction_type)
    for number, row in enumerate(rows, start=1):
        if prediction_type != "lm_scores" and "label" not in row:
            raise DataError(
                f"{source} has no column 'label' in row {number}; it has: {', '.join(row)}", "add the label to the row"
            )
        if error := plugin.row_error(row):
            raise DataError(f"{source}: row {number} {error}", "correct or remove the row")


def compute_metrics(rows: Rows, prediction_type: str, options: ScoringOptions) -> MetricResult:
    """Compute the metrics of rows that `check_rows` accepted."""
    return prediction_types.load(prediction_type).compute_metrics(rows, options)


def score(rows: Rows, prediction_type: str, options: ScoringOptions) -> Report:
    """Return the report on rows that `check_rows` accepted."""
    return to_report(compute_metrics(rows, prediction_type, options), options)
