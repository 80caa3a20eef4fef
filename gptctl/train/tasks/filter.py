"""Training of a quality filter on labelled texts: a linear model over words, which needs no torch and no base model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from gptctl.core import atomic
from gptctl.core.config import Values
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.pipeline import data_splits
from gptctl.text.arrow_arrays import combine
from gptctl.text.word_models import training
from gptctl.text.word_models.ngram_model import NgramModel

BASE = "none"  # what MODEL must be
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class LabelledTables:
    """The labelled texts of each split, and the column of the labels."""

    tables: dict[str, pa.Table]
    label_column: str

    def names(self) -> list[str]:
        """Return the labels of the training split. Raises DataError (3) if there are fewer than two."""
        return data_splits.label_names(self.tables["train"], self.label_column)

    def truth(self, split: str, names: list[str]) -> list[int]:
        """Return the positions of a split's labels in `names`. Raises DataError (3) for an unknown label."""
        numbers = {name: number for number, name in enumerate(names)}
        return [numbers[x] for x in data_splits.known_labels(self.tables[split], self.label_column, names, split)]


def check_base(base: str, task: str) -> None:
    """Raise UsageError (2) if a filter is to start from a model, or another task from none."""
    if task == "filter" and base != BASE:
        hint = f"gptctl finetune {BASE} DATA --task filter -o OUT"
        raise UsageError(f"--task filter starts from no model, not {base}", hint)
    if task != "filter" and base == BASE:
        raise UsageError(f"--task {task} starts from a model", f"name its folder; {BASE} is for --task filter")


def train_filter(data: LabelledTables, seed: int, run: Path, context: Context) -> tuple[Values, Rows]:
    """Train on the training split and write RUN/model.

    Return the metrics, those of the validation split by the names that other tasks have, and for each text that was
    held out its id, label and prediction, with the probability of each label.
    """
    names = data.names()
    truth = {split: data.truth(split, names) for split in data.tables if split in ("train", "val", "held out")}

    def after_pass(number: int) -> None:
        context.progress(number, training.PASSES, "passes")
        context.stop.check("stopped")

    model = training.train_ngram_model(data.tables["train"], truth["train"], names, seed, after_pass)
    on_train, on_val = (score_split(model, data.tables[split], truth[split]) for split in ("train", "val"))
    metrics: Values = {
        "labels": names,
        "train_texts": len(truth["train"]),
        "val_texts": len(truth["val"]),
        "train_loss": on_train["loss"],
    }
    metrics |= {f"best_val_{name}": value for name, value in on_val.items() if not math.isnan(value)}
    with atomic.atomic_folder(run / "model") as folder:
        model.save(folder, metrics)
    held = data.tables.get("held out")
    return metrics, [] if held is None else predict_rows(model, held, truth["held out"])


def score_split(model: NgramModel, table: pa.Table, truth: list[int]) -> dict[str, float]:
    """Return loss, accuracy and F1 of a model on the texts of a split."""
    return training.scores(model.probabilities(combine(table["text"])), truth)


def predict_rows(model: NgramModel, table: pa.Table, truth: list[int]) -> Rows:
    """Return a model's predictions as rows for `gptctl eval --predictions`."""
    found = model.probabilities(combine(table["text"]))
    return [
        {"id": identity, "label": model.labels[label], "pred": model.labels[int(row.argmax())], "probs": row.tolist()}
        for identity, label, row in zip(table["id"].to_pylist(), truth, found, strict=True)
    ]
