"""Exact match: the share of texts that equal a reference, ignoring case, punctuation and articles, as in SQuAD."""

from __future__ import annotations

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.squad import TextPairs, normalized_words
from gptctl.evals.stats.intervals import Interval, wilson

PREDICTION_TYPES = ("texts",)


def row_statistics(data: TextPairs) -> FloatArray:
    """Return for each text 1 if it equals a reference, else 0, and 1."""
    matches = [
        any(normalized_words(text) == normalized_words(reference) for reference in references)
        for text, references in data
    ]
    return np.stack((matches, np.ones(len(matches))), axis=1).astype(np.float64)


def compute(totals: FloatArray) -> FloatArray:
    """Return the share."""
    return np.asarray(totals[..., 0] / totals[..., 1])


def confidence_interval(totals: FloatArray) -> Interval:
    """Return the 95 % interval of a proportion."""
    return wilson(int(totals[0]), int(totals[1]))
