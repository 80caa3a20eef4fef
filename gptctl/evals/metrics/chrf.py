"""chrF2 of the whole corpus, 0 to 100, by sacrebleu with its defaults (character 1- to 6-grams, no words).

Popovic 2015, "chrF: character n-gram F-score for automatic MT evaluation".
"""

from __future__ import annotations

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.squad import TextPairs
from gptctl.evals.scoring.translation import corpus_score, sentence_statistics

PREDICTION_TYPES = ("texts",)


def row_statistics(data: TextPairs) -> FloatArray:
    """Return the n-grams of each sentence, of its reference, and those that match."""
    return sentence_statistics("CHRF", data)


def compute(totals: FloatArray) -> FloatArray:
    """Return the score of the corpus."""
    return corpus_score("CHRF", totals)
