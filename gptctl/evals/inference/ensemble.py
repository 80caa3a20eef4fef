"""Several classifiers as one: the mean of their probabilities decides (a "bagged" or "deep" ensemble)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gptctl.core.errors import UsageError
from gptctl.evals.scoring.evaluation import Examples


def members(run: str) -> list[str]:
    """Return the runs of the seeds of a `finetune --seeds` folder. Raises UsageError (2) if there are none."""
    found = sorted(str(path) for path in Path(run).glob("seed-*") if (path / "model").is_dir())
    if not found:
        raise UsageError(f"{run} holds no models of several seeds", "make them with: gptctl finetune --seeds 5")
    return found


def averaged(answers: Sequence[list[Examples]]) -> list[Examples]:
    """Give, for each split, the rows with mean probabilities and the likeliest label, from those of each model.

    Raises UsageError (2) where the models are no classifiers of the same labels.
    """
    result = []
    for parts in zip(*answers, strict=True):
        first = parts[0]
        labels = first.facts.get("labels")
        if first.kind != "labels" or any(part.facts.get("labels") != labels for part in parts) or not labels:
            raise UsageError("an ensemble needs classifiers of the same labels", "leave ensemble out")
        probs = np.mean([[row["probs"] for row in part.rows] for part in parts], axis=0)
        rows = [
            row | {"probs": each.tolist(), "pred": labels[int(each.argmax())]}
            for row, each in zip(first.rows, probs, strict=True)
        ]
        facts = first.facts | {"report": first.facts.get("report", {}) | {"models": len(parts)}}
        result.append(replace(first, rows=rows, facts=facts))
    return result
