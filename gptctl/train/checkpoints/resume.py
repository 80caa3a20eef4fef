"""Resuming of a run from its newest valid checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from gptctl.core.errors import DataError, GptctlError
from gptctl.model.files import model_manifest
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.checkpoints.load_checkpoint import load_checkpoint
from gptctl.train.faults import SkippedSamples
from gptctl.train.job import Model
from gptctl.train.progress import TrainProgress
from gptctl.train.strategies import Strategy


def find_checkpoint(run: Path, strategy: Strategy, warn: Callable[[str], None] | None = None) -> Path | None:
    """Return the newest valid checkpoint of a run, or None if there is none. Every rank must call it.

    Raises DataError (3) if all checkpoints are damaged: starting from step 0 without a word could cost days.
    """
    folders = strategy.broadcast_object(checkpoint_folders.list_checkpoints(run / "checkpoints"))
    found = newest_valid(folders, strategy, warn)
    if folders and found is None:
        raise DataError(f"every checkpoint is damaged: {folders[-1]}", "restore one, or use --force to start afresh")
    return found


def newest_valid(folders: Sequence[Path], strategy: Strategy, warn: Callable[[str], None] | None = None) -> Path | None:
    """Return the last of some checkpoints that is valid. Each rank verifies a part of the files, and all agree."""
    for folder in reversed(folders):
        damage = ""
        try:
            model_manifest.verify(folder, strategy.rank, strategy.dims.world_size)
        except GptctlError as error:
            damage = error.message
        found = next(filter(None, strategy.gather_objects(damage)), "")
        if not found:
            return folder
        if warn and strategy.rank == 0:
            warn(f"skipping damaged {folder.name}: {found}")
    return None


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
