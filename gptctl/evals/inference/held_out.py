"""Predict and score the texts that a finetuning held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.split_predictions import group_by_split
from gptctl.evals.tasks import classify
from gptctl.io.dataset import shards
from gptctl.io.input import predictions
from gptctl.io.input.predictions import Predictions, Rows
from gptctl.pipeline import data_splits

if TYPE_CHECKING:
    import torch

FILE = "held-out.arrow"


def predict_texts(model: LoadedModel, label_column: str, table: pa.Table, device: torch.device) -> Rows:
    """Return a classifier's predictions. Raises DataError (3) for a label that it does not know."""
    data_splits.known_labels(table, label_column, model.label_names, "held out")
    options = InferenceOptions(label_column)
    requests = classify.build_requests(table, model, options)
    return requests.to_rows(classify.run_requests(model, requests.requests, options, device))


def score_rows(rows: Rows, folder: Path) -> dict[str, float]:
    """Write the rows for `gptctl eval --predictions`, and return held_out_accuracy and held_out_f1 (macro)."""
    shards.write_shard(folder, FILE, predictions.to_table(rows, "predictions", {}))
    options = ScoringOptions(metrics=("accuracy", "f1"), ci="none", per_class=False, confusion=False)
    report = group_by_split(Predictions(rows), (), "held out")[0].score(options)
    return {f"held_out_{name}": report[name] for name in ("accuracy", "f1")}


def read_rows(folder: Path) -> Rows:
    """Read the rows that `score_rows` wrote."""
    return predictions.read_rows(str(folder / FILE)).rows
