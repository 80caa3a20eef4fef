"""Token F1: the mean F1 of a text's words and those of its closest reference, as bags of words (SQuAD)."""

from __future__ import annotations

from collections import Counter

import numpy as np

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.squad import TextPairs, normalized_words

PREDICTION_TYPES = ("texts",)


def row_statistics(data: TextPairs) -> FloatArray:
    """Return the best F1 of each text over its references, and 1."""
    best = [
        max(bag_f1(normalized_words(text), normalized_words(reference)) for reference in references)
        for text, references in data
    ]
    return np.stack((best, np.ones(len(best))), axis=1).astype(np.float64)


def bag_f1(predicted: list[str], reference: list[str]) -> float:
    """Return the F1 of two bags of words: 1 if both are empty, 0 if only one is."""
    if not predicted or not reference:
        return float(predicted == reference)
    return 2 * (Counter(predicted) & Counter(reference)).total() / (len(predicted) + len(reference))


def compute(totals: FloatArray) -> FloatArray:
    """Return the mean over the texts."""
    return np.asarray(totals[..., 0] / totals[..., 1])
