"""Bits per byte of UTF-8 text. Unlike perplexity, it can be compared between tokenizers.

Nats and bytes are summed over all documents before dividing; a mean of per-document ratios would be another number.
"""

from __future__ import annotations

import math

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.averages import divide

PREDICTION_TYPES = ("lm_scores",)
LOWER_IS_BETTER = True


def row_statistics(data: FloatArray) -> FloatArray:
    """Return the nats and bytes of each document."""
    return data[:, :2]


def compute(totals: FloatArray) -> FloatArray:
    """Return the nats divided by the bytes, in bits."""
    return divide(totals[..., 0], np.asarray(math.log(2) * totals[..., 1]), "nan")
