"""chrF2 of a whole corpus, 0 to 100, by sacrebleu with its defaults (character 1- to 6-grams, no words).

Popovic 2015, "chrF: character n-gram F-score for automatic MT evaluation".
"""

from __future__ import annotations

from gptctl.evals.scoring import translation
from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.squad import Pairs

KINDS = ("texts",)


def statistics(data: Pairs) -> Floats:
    """Give each sentence's n-grams, the reference's, and the matching ones."""
    return translation.statistics("CHRF", data)


def estimate(totals: Floats) -> Floats:
    """Return the corpus score."""
    return translation.estimate("CHRF", totals)
