"""BLEU and chrF by sacrebleu, which makes translation scores comparable (Post 2018)."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from gptctl.core.extras import require
from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.squad import TextPairs

Score: TypeAlias = Literal["BLEU", "CHRF"]


def sacrebleu_metric(name: Score) -> Any:
    """Return sacrebleu's metric with its default options. Raises MachineError (4) if sacrebleu is not installed."""
    metrics: Any = require("sacrebleu").metrics
    return metrics.BLEU(force=True) if name == "BLEU" else metrics.CHRF()


def sentence_statistics(name: Score, data: TextPairs) -> FloatArray:
    """Return the counts of each sentence, (N, S). The score of a corpus is a function of their sums.

    sacrebleu uses these counts for its own bootstrap, under a private name; its public functions return scores only.
    """
    most = max((len(references) for _, references in data), default=1)
    streams = [[references[i] if i < len(references) else None for _, references in data] for i in range(most)]
    counts = sacrebleu_metric(name)._extract_corpus_statistics([text for text, _ in data], streams)
    return np.array(counts, np.float64)


def corpus_score(name: Score, totals: FloatArray) -> FloatArray:
    """Return the score of a corpus, 0 to 100, from sums of counts (..., S)."""
    metric = sacrebleu_metric(name)
    flat = totals.reshape(-1, totals.shape[-1])
    scores = [metric._compute_score_from_stats(row.round().astype(np.int64).tolist()).score for row in flat]
    return np.array(scores, np.float64).reshape(totals.shape[:-1])
