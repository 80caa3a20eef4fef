"""Rows of how well a language model foretold documents: `nats`, `bytes`, `tokens`, a document each."""

from __future__ import annotations

import math

import numpy as np

from gptctl.evals.scoring import metric_results
from gptctl.evals.scoring.metric_results import Measured, Rows, Values
from gptctl.evals.scoring.options import Options

DEFAULTS = ("loss", "perplexity", "bits_per_byte", "byte_perplexity")
COLUMNS = ("nats", "bytes", "tokens")  # of the table that the metrics are given


def matches(row: Values) -> bool:
    """Return whether a row has nats and bytes."""
    return "nats" in row and "bytes" in row


def problem(row: Values) -> str | None:
    """Say what is wrong with a row, or None."""
    for column in COLUMNS:
        value = row.get(column, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            return f"has no usable number of {column}"
    return None


def measure(rows: Rows, options: Options) -> Measured:
    """Add up nats, bytes and tokens over the documents."""
    modules = metric_results.chosen(options, "nats", DEFAULTS)
    table = np.array([[row.get(column, 0) for column in COLUMNS] for row in rows], np.float64)
    part = metric_results.additive(modules, table, metric_results.groups_of(rows))
    totals = metric_results.exact_sums(table)
    return Measured(len(rows), (part,), {"tokens": int(totals[2]), "bytes": int(totals[1])})
