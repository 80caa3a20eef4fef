"""Perplexity: e^(nats per token). It can be compared for the same tokenizer only."""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.averages import divide

PREDICTION_TYPES = ("lm_scores",)
LOWER_IS_BETTER = True


def row_statistics(data: FloatArray) -> FloatArray:
    """Return the nats and tokens of each document."""
    return data[:, [0, 2]]


def compute(totals: FloatArray) -> FloatArray:
    """Return e^(nats per token); infinity on overflow."""
    with np.errstate(over="ignore"):
        return np.exp(divide(totals[..., 0], np.asarray(totals[..., 1]), "nan"))
