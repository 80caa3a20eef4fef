"""BLEU of the whole corpus, 0 to 100, by sacrebleu with its defaults (13a tokenizer, exponential smoothing).

Papineni et al. 2002; Post 2018, "A Call for Clarity in Reporting BLEU Scores".
"""

from __future__ import annotations

from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.squad import TextPairs
from gptctl.evals.scoring.translation import corpus_score, sentence_statistics

PREDICTION_TYPES = ("texts",)


def row_statistics(data: TextPairs) -> FloatArray:
    """Return the lengths, matching n-grams and n-grams of each sentence."""
    return sentence_statistics("BLEU", data)


def compute(totals: FloatArray) -> FloatArray:
    """Return the score of the corpus."""
    return corpus_score("BLEU", totals)
