"""Mean F1 of a text's words against those of its nearest reference (SQuAD's rule: words as a bag)."""

from __future__ import annotations

from collections import Counter

import numpy as np

from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.squad import Pairs, words

KINDS = ("texts",)


def statistics(data: Pairs) -> Floats:
    """Give each text's best F1 over its references, and 1."""
    best = [max(overlap(words(text), words(reference)) for reference in references) for text, references in data]
    return np.stack((best, np.ones(len(best))), axis=1).astype(np.float64)


def overlap(found: list[str], wanted: list[str]) -> float:
    """Return the F1 of two bags of words; two empty ones are equal, an empty one and another have nothing in common."""
    if not found or not wanted:
        return float(found == wanted)
    return 2 * (Counter(found) & Counter(wanted)).total() / (len(found) + len(wanted))


def estimate(totals: Floats) -> Floats:
    """Return the mean."""
    return np.asarray(totals[..., 0] / totals[..., 1])
