"""Resuming of a run from its newest valid checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from gptctl.core.errors import DataError
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.checkpoints.load_checkpoint import load_checkpoint
from gptctl.train.faults import SkippedSamples
from gptctl.train.job import Model
from gptctl.train.progress import TrainProgress
from gptctl.train.strategies import Strategy


def find_checkpoint(run: Path, strategy: Strategy, warn: Callable[[str], None] | None = None) -> Path | None:
    """Return the newest valid checkpoint of a run, or None if there is none. The first rank looks for all.

    Raises DataError (3) if all checkpoints are damaged: starting from step 0 without a word could cost days.
    """
    found = checkpoint_folders.latest_valid(run, warn) if strategy.rank == 0 else None
    if strategy.rank == 0 and found is None and (damaged := checkpoint_folders.list_checkpoints(run / "checkpoints")):
        raise DataError(f"every checkpoint is damaged: {damaged[-1]}", "restore one, or use --force to start afresh")
    return strategy.broadcast_object(found)


def restore(
    checkpoint: Path,
    strategy: Strategy,
    model: Model,
    parameters: Mapping[str, nn.Parameter],
    optimizers: Sequence[Optimizer],
    skipped: Sequence[SkippedSamples],
) -> TrainProgress:
    """Load a checkpoint's weights and optimizer state, and return its progress."""
    for optimizer in optimizers:
        optimizer.state.clear()
    progress = TrainProgress(**load_checkpoint(checkpoint, model, parameters, optimizers, strategy))
    for piece in skipped:
        if piece.rollback_step == progress.step:  # the rollback kept checkpoints/best, which may be later
            progress.best, progress.best_step = piece.best, piece.best_step
    return progress
