"""BLEU of a whole corpus, 0 to 100, by sacrebleu with its defaults (13a tokens, exponential smoothing).

Papineni et al. 2002; Post 2018, "A Call for Clarity in Reporting BLEU Scores".
"""

from __future__ import annotations

from gptctl.evals.scoring import translation
from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.squad import Pairs

KINDS = ("texts",)


def statistics(data: Pairs) -> Floats:
    """Give each sentence's lengths, matching n-grams and n-grams."""
    return translation.statistics("BLEU", data)


def estimate(totals: Floats) -> Floats:
    """Return the corpus score."""
    return translation.estimate("BLEU", totals)
