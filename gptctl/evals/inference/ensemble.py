"""Several classifiers as one: the mean of their probabilities decides (a "bagged" or "deep" ensemble)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gptctl.core.errors import UsageError
from gptctl.evals.scoring.split_predictions import SplitPredictions


def member_runs(run: str) -> list[str]:
    """Return the run of each seed in a `finetune --seeds` folder. Raises UsageError (2) if there are none."""
    runs = sorted(str(path) for path in Path(run).glob("seed-*") if (path / "model").is_dir())
    if not runs:
        raise UsageError(f"{run} holds no models of several seeds", "make them with: gptctl finetune --seeds 5")
    return runs


def average_predictions(members: Sequence[list[SplitPredictions]]) -> list[SplitPredictions]:
    """Return for each split the rows with the mean probabilities of all models, and the most probable label.

    Raises UsageError (2) unless the models are classifiers of the same labels.
    """
    averaged = []
    for splits in zip(*members, strict=True):
        first, labels = splits[0], splits[0].metadata.labels
        if first.prediction_type != "labels" or any(one.metadata.labels != labels for one in splits) or not labels:
            raise UsageError("an ensemble needs classifiers of the same labels", "leave ensemble out")
        probs = np.mean([[row["probs"] for row in one.rows] for one in splits], axis=0)
        rows = [
            row | {"probs": mean.tolist(), "pred": labels[int(mean.argmax())]}
            for row, mean in zip(first.rows, probs, strict=True)
        ]
        settings = {**first.metadata.report_settings, "models": len(splits)}
        averaged.append(replace(first, rows=rows, metadata=replace(first.metadata, report_settings=settings)))
    return averaged
