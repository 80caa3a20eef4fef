"""Small training jobs on real text, for other processes too; `python -m tests.train.jobs FOLDER ...` runs one."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize
from gptctl.model.tensor_part import TensorPart
from gptctl.train.data.batch import Batch
from gptctl.train.data.data_source import DataSource, TrainSource
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.job import Model, TrainJob
from gptctl.train.loop import train
from gptctl.train.recipe import Recipe
from gptctl.train.strategies.single import SingleDevice
from gptctl.train.tasks.pretraining import NewModel

VOCABULARY = 256
os.environ["OMP_NUM_THREADS"] = "1"  # models this small gain nothing from more, and tests share the machine


def text() -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return the bytes of a file that every Python has."""
    return np.frombuffer(Path(argparse.__file__).read_bytes()[:40_000], np.uint8).astype(np.uint16)


def windows(split: str, seq_len: int, seed: int, kill_at: int = -1) -> TokenWindows:
    """Open a split; the process dies when sample `kill_at` is asked for."""
    tokens = text()
    part = tokens[:36_000] if split == "train" else tokens[36_000:]
    return Deadly([part], seq_len, seed, kill_at) if kill_at >= 0 else TokenWindows([part], seq_len, seed, split)


class Deadly(TokenWindows):
    """Windows that kill who reads too far, as kill -9 or a power cut would."""

    def __init__(self, parts: list[Any], seq_len: int, seed: int, kill_at: int) -> None:
        super().__init__(parts, seq_len, seed)
        self.kill_at = kill_at

    def batch(self, first_index: int, count: int) -> Batch:
        """Return a batch, or die."""
        if first_index <= self.kill_at < first_index + count:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(first_index, count)


def only(open_source: Callable[[], DataSource]) -> tuple[TrainSource, ...]:
    """Return the sources of a run that reads one source."""
    return (TrainSource(open_source),)


def windows_of(batch: Batch) -> torch.Tensor:
    """Return the windows (B, T + 1) of a batch: its inputs and the last label."""
    return torch.cat((batch.input_ids, batch.labels[:, -1:]), dim=1)


def build(config: ModelConfig, seed: int) -> GPT:
    """Build and initialize."""
    model = GPT(config)
    initialize(model, seed)
    return model


@dataclass(frozen=True)
class WholeModel:
    """A model that a function builds and initializes, as the source of a job's model."""

    build_whole: Callable[[], Model]

    def build(self) -> Model:
        """Return the model on the meta device."""
        return self.build_whole().to("meta")

    def init_weights(self, model: Model, parts: Mapping[str, TensorPart]) -> None:
        """Copy the values of the initialized model."""
        for name, parameter in self.build_whole().named_parameters():
            parts[name].copy_rows(0, parameter.detach())


def whole_model(job: TrainJob) -> Model:
    """Return the model of a job with its weights before training."""
    model = job.model.build()
    parameters = SingleDevice(torch.device("cpu")).prepare_model(model, "fp32", False)
    job.model.init_weights(model, {name: TensorPart.whole(p.detach()) for name, p in parameters.items()})
    return model


def make_job(
    preset: str = "test-gpt2",
    model: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    kill_at: int = -1,
    **job: Any,
) -> TrainJob:
    """Describe a run of 30 steps."""
    tables = load_preset(preset)
    config = ModelConfig.model_validate(tables["model"] | {"vocab_size": VOCABULARY, "max_seq_len": 32} | (model or {}))
    full = Recipe.model_validate(tables["training"] | {"steps": 30, "seq_len": 32, "batch_size": 6} | (recipe or {}))
    return TrainJob(
        recipe=full,
        model=NewModel(config, 5),
        train_sources=only(partial(windows, "train", full.seq_len, 7, kill_at)),
        val_data=partial(windows, "val", full.seq_len, 7),
        **{"seed": 5, "device": "cpu", **job},
    )


def run_in(folder: Path, job: TrainJob, context: Context | None = None) -> dict[str, Any]:
    """Train in a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return train(job, Run(folder, "pretrain", {}), context or Context())


def weights(folder: Path, step: int = 30) -> dict[str, torch.Tensor]:
    """Return the parameters and the optimizer state of a checkpoint."""
    path = folder / "checkpoints" / f"step-{step:06d}"
    return load_file(path / "model.safetensors") | load_file(path / "optimizer.safetensors")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Every tensor bit for bit."""
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of one kind."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


if __name__ == "__main__":
    folder, preset, dropout, kill_at = sys.argv[1:]
    run_in(
        Path(folder),
        make_job(
            preset,
            {"dropout": float(dropout)},
            kill_at=int(kill_at),
            checkpoint_every=4,
            eval_every=10,
            micro_batch_size=4,
        ),
    )
