"""Texts that a training left out: labelled once by what it came to, and scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from gptctl.evals.inference.loaded_model import Asked, Settings
from gptctl.evals.scoring import evaluation
from gptctl.evals.scoring.metric_results import Values
from gptctl.evals.scoring.options import Options
from gptctl.evals.tasks import classify
from gptctl.io.dataset import shards
from gptctl.io.input import predictions
from gptctl.io.input.predictions import Predictions, Rows
from gptctl.pipeline import labelled_data

if TYPE_CHECKING:
    import torch

FILE = "held-out.arrow"


def label(asked: Asked, label_column: str, table: pa.Table, device: torch.device) -> Rows:
    """Ask a classifier about texts. Raises DataError (3) for a label that it does not know."""
    labelled_data.known_labels(table, label_column, asked.label_names, "held out")
    settings = Settings(label_column)
    prepared = classify.prepare(table, asked, settings)
    return prepared.finish(classify.answer(asked, prepared.pieces, settings, device, lambda done: None))


def score(rows: Rows, folder: Path) -> Values:
    """Write the rows, for gptctl eval --predictions; give held_out_accuracy and held_out_f1 (macro)."""
    shards.write_shard(folder, FILE, predictions.to_table(rows, "predictions", {}))
    options = Options(metrics=("accuracy", "f1"), ci="none", per_class=False, confusion=False)
    found = evaluation.report(evaluation.of_rows(Predictions(rows), (), "held out")[0], options)
    return {f"held_out_{name}": found[name] for name in ("accuracy", "f1")}


def read(folder: Path) -> Rows:
    """Read the rows that `score` wrote."""
    return predictions.read_rows(str(folder / FILE)).rows
