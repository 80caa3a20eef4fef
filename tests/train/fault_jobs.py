"""Training jobs whose data go wrong; `python -m tests.train.fault_jobs FOLDER ACTION KILL_AT` runs one."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize
from gptctl.model.kv_cache import KVCache
from gptctl.train.data.batch import Batch
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.faults import FaultPolicy
from gptctl.train.job import TrainJob
from tests.train.jobs import VOCABULARY, Deadly, WholeModel, make_job, only, run_in, text, windows_of

POISON = 255  # a byte that the text does not have


class Touchy(GPT):
    """A GPT that gives NaN for a sequence that holds POISON, as a broken kernel or an overflow would."""

    def run_blocks(
        self, tokens: Tensor, cache: KVCache | None, starts: Tensor | None, checkpoint_activations: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return hidden states, or NaN."""
        hidden, routers = super().run_blocks(tokens, cache, starts, checkpoint_activations)
        spoiled = torch.where((tokens == POISON).any(1), torch.nan, 1.0)
        return hidden * spoiled[:, None, None], routers


class Spoiled(Deadly):
    """Windows of which some are bad: POISON in front ("nan"), or nothing but noise ("noise")."""

    def __init__(self, bad: frozenset[int], how: str, kill_at: int = -1, seed: int = 7) -> None:
        super().__init__([text()[:36_000]], 32, seed, kill_at)
        self.bad = bad
        self.how = how

    def batch(self, first_index: int, count: int) -> Batch:
        """Return a batch whose bad samples are spoiled."""
        windows = windows_of(super().batch(first_index, count))
        for row in range(count):
            if first_index + row in self.bad and self.how == "nan":
                windows[row, 0] = POISON
            elif first_index + row in self.bad:
                noise = torch.Generator().manual_seed(first_index + row)
                windows[row] = torch.randint(128, 255, windows[row].shape, generator=noise)
        return Batch.from_windows(windows)


class WithoutSome(TokenWindows):
    """The same windows with [first, end) cut out: what training reads that passes over these."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__([text()[:36_000]], 32, 7)
        self.first = first
        self.gap = end - first

    def batch(self, first_index: int, count: int) -> Batch:
        """Return a batch from behind the gap, if it begins there."""
        assert not first_index < self.first < first_index + count
        return super().batch(first_index + (self.gap if first_index >= self.first else 0), count)


def build_touchy(config: ModelConfig, seed: int) -> GPT:
    """Build and initialize."""
    model = Touchy(config)
    initialize(model, seed)
    return model


def faulty_job(
    bad: range | frozenset[int] = frozenset(),
    how: str = "nan",
    faults: dict[str, Any] | None = None,
    kill_at: int = -1,
    **job: Any,
) -> TrainJob:
    """Describe a run of 30 steps of 6 samples, of which some are bad."""
    tables = load_preset("test-gpt2")
    config = ModelConfig.model_validate(tables["model"] | {"vocab_size": VOCABULARY, "max_seq_len": 32, "dropout": 0.1})
    return replace(
        make_job(**job),
        model=WholeModel(partial(build_touchy, config, 5)),
        train_sources=only(partial(Spoiled, frozenset(bad), how, kill_at)),
        faults=FaultPolicy.model_validate(faults or {}),
    )


if __name__ == "__main__":
    folder, action, kill = sys.argv[1:]
    run_in(
        Path(folder),
        faulty_job(
            range(100, 102),
            faults={"on_nonfinite": action, "margin": 2},
            kill_at=int(kill),
            checkpoint_every=4,
            eval_every=5,
        ),
    )
