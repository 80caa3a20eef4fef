"""sacrebleu, which makes translation scores comparable (Post 2018), and what it counts per sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.core.errors import MachineError
from gptctl.evals.scoring.averages import Floats
from gptctl.evals.scoring.squad import Pairs


def scorer(name: str) -> Any:
    """Return sacrebleu's BLEU or CHRF with its defaults. Raises MachineError (4) if it is not installed."""
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MachineError(
            f"{name.lower()} needs sacrebleu, which is not installed", "pip install 'gptctl[text-metrics]'"
        ) from error
    made: Any = metrics
    return made.BLEU(force=True) if name == "BLEU" else made.CHRF()


def statistics(name: str, data: Pairs) -> Floats:
    """Give each sentence's counts, (N, S): the score of a corpus is a function of their sums.

    sacrebleu has these counts for its own bootstrap, behind a private name; its public functions give scores only.
    """
    most = max((len(references) for _, references in data), default=1)
    streams = [[references[i] if i < len(references) else None for _, references in data] for i in range(most)]
    counts = scorer(name)._extract_corpus_statistics([text for text, _ in data], streams)
    return np.array(counts, np.float64)


def estimate(name: str, totals: Floats) -> Floats:
    """Return the corpus score, 0 to 100, of each row of sums (..., S)."""
    metric = scorer(name)
    flat = totals.reshape(-1, totals.shape[-1])
    scores = [metric._compute_score_from_stats(row.round().astype(np.int64).tolist()).score for row in flat]
    return np.array(scores, np.float64).reshape(totals.shape[:-1])
