"""Byte perplexity: 2^(bits per byte), the number of equally likely bytes with the same uncertainty."""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.averages import divide

PREDICTION_TYPES = ("lm_scores",)
LOWER_IS_BETTER = True


def row_statistics(data: FloatArray) -> FloatArray:
    """Return the nats and bytes of each document."""
    return data[:, :2]


def compute(totals: FloatArray) -> FloatArray:
    """Return e^(nats per byte), which equals 2^(bits per byte); infinity on overflow."""
    with np.errstate(over="ignore"):
        return np.exp(divide(totals[..., 0], np.asarray(totals[..., 1]), "nan"))
