"""Strategies with one rank, connected by NCCL on a GPU and by gloo on the CPU; and a run that is killed and resumed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train import loop
from gptctl.train.job import TrainJob
from tests.gpu.check import Row, Setting, check
from tests.gpu.training import EXACT, ROUNDED, difference, job, losses
from tests.train.jobs import events, only, run_in, windows

STEPS = 8
KILLED_AT = 6 * 8 + 3  # a sample of the seventh batch


def launched_losses(setting: Setting, described: TrainJob, strategy: str) -> list[float]:
    """Train in one rank that the launcher starts, and return the loss of each step."""
    folder = setting.new_folder()
    chosen = replace(described, strategy=strategy, world_size=1)
    module = plugins.load("gptctl.train.strategies", strategy)
    module.launch(loop.train_rank, chosen, Run(folder, "pretrain", {}), Context())
    return [line["loss"] for line in events(folder, "step")]


@check
def strategies_with_one_rank(setting: Setting) -> Iterator[Row]:
    """ddp, fsdp and tp with one rank give the losses of a run without ranks."""
    for preset in ("test-gpt2", "test-moe"):
        described = job(preset, setting, steps=STEPS)
        alone = losses(setting, described)
        for strategy in ("ddp", "fsdp") if setting.is_small or preset == "test-moe" else ("ddp", "fsdp", "tp"):
            found = launched_losses(setting, described, strategy)
            yield Row(f"{preset}: {strategy} with one rank, fp32", difference(found, alone), EXACT)
        if setting.is_small:
            return


@check
def bf16_blocks_of_fsdp(setting: Setting) -> Iterator[Row]:
    """Blocks that fsdp gathers in bf16: LayerNorm with inputs in fp32, RMSNorm on queries and keys, and experts."""
    for preset in ("test-gpt2",) if setting.is_small else ("test-gpt2", "test-modern", "test-moe"):
        described = job(preset, setting, steps=STEPS, precision="bf16")
        found = launched_losses(setting, described, "fsdp")
        yield Row(
            f"{preset}: fsdp against a run without ranks, bf16", difference(found, losses(setting, described)), ROUNDED
        )


@check
def killed_and_resumed(setting: Setting) -> Iterator[Row]:
    """A run that was killed with SIGKILL ends with the losses of one that was not: exactly so on the CPU."""
    straight, killed = setting.new_folder(), setting.new_folder()
    run_in(straight, resumable(setting))
    words = [sys.executable, "-m", "tests.gpu.ranks", str(killed), setting.device.type]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == -9, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    run_in(killed, resumable(setting))
    resumed_at = events(killed, "resumed")[0]["step"]
    expected, found = ([line["loss"] for line in events(run, "step")] for run in (straight, killed))
    same = difference(found[-(STEPS - resumed_at) :], expected[resumed_at:])
    yield Row("losses after resuming against those without a kill", same, 0.0 if setting.is_small else EXACT)


def resumable(setting: Setting, kill_at: int = -1) -> TrainJob:
    """Describe a run with a checkpoint after every second step."""
    described = job("test-modern", setting, steps=STEPS, checkpoint_every=2)
    return replace(described, train_sources=only(partial(windows, "train", described.recipe.seq_len, 7, kill_at)))


if __name__ == "__main__":
    run_in(Path(sys.argv[1]), resumable(Setting(torch.device(sys.argv[2])), KILLED_AT))
