"""The weights that a finished run keeps as its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gptctl.model.files import tensor_files
from gptctl.model.save import Weights, save_model
from gptctl.model.saved_model import load_weights_into
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.checkpoints.load_checkpoint import read_progress
from gptctl.train.job import Model, TrainJob


def save(job: TrainJob, run: Path, best: bool, metrics: dict[str, Any]) -> None:
    """Write the model folder of a finished run from its newest checkpoint, or from that of the best evaluation.

    The weights are copied one after the other. So the model is never whole in the memory of this process.
    """
    folder = checkpoint_folders.best_or_latest(run) if best else checkpoint_folders.latest_valid(run)
    assert folder is not None  # a finished run has saved one
    weights = tensor_files.open_weights(folder)
    save_model(run / "model", job.model.build(), job.tokenizer_json, job.metadata | {"metrics": metrics}, weights)


def open_best(job: TrainJob, run: Path, load: bool) -> tuple[Model, Weights | None, dict[str, Any]]:
    """Return the model of the best evaluation, in evaluation mode, and its metrics on val as best_val_*.

    Without `load` the model is on the meta device, and its weights are returned beside it, to be read later. Without a
    val split it is the newest checkpoint, without metrics.
    """
    folder = checkpoint_folders.best_or_latest(run)
    metrics = {f"best_val_{name}": value for name, value in read_progress(folder)["val"].items()}
    model = job.model.build().eval()
    if not load:
        return model, tensor_files.open_weights(folder), metrics
    load_weights_into(model, folder)
    return model, None, metrics
