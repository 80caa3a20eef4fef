"""Rows of a language model's scores: `nats`, `bytes` and `tokens` of one document each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gptctl.evals import metrics as metric_plugins
from gptctl.evals.prediction_types import group_ids
from gptctl.evals.scoring.additive import additive_metrics, exact_sums
from gptctl.evals.scoring.metric_results import MetricResult
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.io.input.predictions import Rows

DEFAULT_METRICS = ("loss", "perplexity", "bits_per_byte", "byte_perplexity")
COLUMNS = ("nats", "bytes", "tokens")  # the columns of the array (N, 3) that the metrics are given


def matches(row: dict[str, Any]) -> bool:
    """Return whether a row has nats and bytes."""
    return "nats" in row and "bytes" in row


def row_error(row: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, or None."""
    for column in COLUMNS:
        value = row.get(column, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            return f"has no usable number of {column}"
    return None


def compute_metrics(rows: Rows, options: ScoringOptions) -> MetricResult:
    """Compute metrics from the sums of nats, bytes and tokens over the documents."""
    metrics = metric_plugins.select(options.metrics or DEFAULT_METRICS, "lm_scores")
    table = np.array([[row.get(column, 0) for column in COLUMNS] for row in rows], np.float64)
    group = additive_metrics(metrics, table, group_ids(rows))
    _, n_bytes, tokens = exact_sums(table)
    return MetricResult(len(rows), (group,), {"tokens": int(tokens), "bytes": int(n_bytes)})
