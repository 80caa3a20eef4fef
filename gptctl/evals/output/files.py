"""The files of an evaluation: predictions as a shard, metrics.json, leakage.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from gptctl.core import atomic
from gptctl.evals.evaluation import Evaluation
from gptctl.io.dataset import shards
from gptctl.io.dataset.manifest import Shard
from gptctl.io.input.predictions import to_table

DATASET_KINDS = {"lm_scores": "scores", "choices": "choices"}  # others are "predictions"


def dataset_kind(evaluation: Evaluation) -> str:
    """Return the kind of dataset that an evaluation is written as."""
    if not evaluation.splits:
        return "harness"
    return DATASET_KINDS.get(evaluation.splits[0].prediction_type, "predictions")


def write(folder: Path, evaluation: Evaluation) -> tuple[Shard, ...]:
    """Write the predictions, if there are any, and the report. Returns the shard of predictions."""
    written: tuple[Shard, ...] = ()
    if splits := evaluation.splits:
        facts = {
            "rows": splits[0].prediction_type,
            "splits": {split.split: split.metadata.to_json() for split in splits},
        }
        rows = [row for split in splits for row in split.rows]
        table = to_table(rows, dataset_kind(evaluation), facts)
        written = (shards.write_shard(folder, "shards/part-00000.arrow", table),)
    atomic.write_json(folder / "metrics.json", evaluation.report)
    if leakage := evaluation.report.get("leakage"):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in leakage["rows"])
        atomic.write_text(folder / "leakage.jsonl", lines)
    return written
