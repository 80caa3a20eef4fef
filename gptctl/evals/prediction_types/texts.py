"""Rows of generated text: `pred`, and `label`, which is a reference text or a list of equally good ones."""

from __future__ import annotations

from typing import Any

from gptctl.evals import metrics as metric_plugins
from gptctl.evals.metrics import exact_match
from gptctl.evals.prediction_types import group_ids
from gptctl.evals.scoring.additive import additive_metrics
from gptctl.evals.scoring.metric_results import MetricResult
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.io.input.predictions import Rows

DEFAULT_METRICS = ("exact_match", "token_f1")


def matches(row: dict[str, Any]) -> bool:
    """Return False: labels are texts too. Rows are of this type only if a metric of texts is named."""
    return False


def row_error(row: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, or None."""
    label = row.get("label")
    if not label and label != "":
        return "has no reference text in label"
    if not all(isinstance(item, str) for item in (label if isinstance(label, list) else [label])):
        return "has a label that is neither a text nor a list of texts"
    if not isinstance(row.get("pred", ""), str | None):
        return "has a pred that is not a text"
    return None


def compute_metrics(rows: Rows, options: ScoringOptions) -> MetricResult:
    """Compare each text with its references; a null text is an empty one."""
    metrics = metric_plugins.select(options.metrics or DEFAULT_METRICS, "texts")
    pairs = [(row["pred"] or "", references(row)) for row in rows]
    correct = exact_match.row_statistics(pairs)[:, 0] > 0
    return MetricResult(len(rows), (additive_metrics(metrics, pairs, group_ids(rows)),), correct=correct)


def references(row: dict[str, Any]) -> list[str]:
    """Return the reference texts of a row."""
    return row["label"] if isinstance(row["label"], list) else [row["label"]]
