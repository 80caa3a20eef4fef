"""The share of texts that equal one of their references but for case, punctuation and articles (SQuAD's rule)."""

from __future__ import annotations

import numpy as np

from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.squad import Pairs, words
from gptctl.evals.stats import intervals

KINDS = ("texts",)


def statistics(data: Pairs) -> Floats:
    """Return 1 for each text that equals a reference, and 1."""
    right = [any(words(text) == words(reference) for reference in references) for text, references in data]
    return np.stack((right, np.ones(len(right))), axis=1).astype(np.float64)


def estimate(totals: Floats) -> Floats:
    """Return the share."""
    return np.asarray(totals[..., 0] / totals[..., 1])


def interval(totals: Floats) -> tuple[float, float]:
    """Return the 95 % interval of a proportion."""
    return intervals.wilson(int(totals[0]), int(totals[1]))
