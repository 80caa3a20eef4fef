"""What the loop does about a faulty step: it skips the batch, rolls back to the last checkpoint, or stops."""

from __future__ import annotations

from typing import NoReturn

from gptctl.core.errors import DivergedError
from gptctl.train import faults
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.checkpoints.resume import find_checkpoint, newest_valid, restore
from gptctl.train.monitor.monitor import Mark
from gptctl.train.state import TrainerState
from gptctl.train.time_control import move_phases

OUTCOMES = {"warn": "were trained on", "skip": "are skipped", "rollback": "and those around them are skipped"}


def handle_fault(state: TrainerState, fault: faults.FaultKind, samples: range, loss: float, grad_norm: float) -> bool:
    """Handle a faulty step on some samples, and return whether its update is done nevertheless.

    Every rank sees the same sums and so does the same. Raises DivergedError (6) if training must end.
    """
    progress, policy = state.progress, state.job.faults
    first, size, step = samples.start, len(samples), progress.step + 1
    rollbacks = sum(piece.rollback_step == state.saved_step for piece in state.skipped_samples)
    action = faults.choose_action(fault, policy, progress.consecutive_skips, rollbacks)
    details = {"loss": loss, "grad_norm": grad_norm, "first_sample": first, "samples": size}
    state.monitor.log_event("fault", step, reason=fault, action=action, **details)
    description = f"loss {loss:.4g}, gradient norm {grad_norm:.4g}"
    if state.is_main and action != "stop":
        state.context.warn(f"step {step}: {description}; samples {first} to {first + size - 1} {OUTCOMES[action]}")
    if action == "stop":
        diverge(state, description)
    if action == "skip":
        progress.next_sample, progress.consecutive_skips = samples.stop, progress.consecutive_skips + 1
    if action == "rollback":
        start, end = faults.samples_to_skip(first, size, rollbacks, policy)
        roll_back(
            state,
            faults.SkippedSamples(start, end, state.saved_step, fault, progress.best, progress.best_step),
        )
    return action == "warn"


def roll_back(state: TrainerState, skipped: faults.SkippedSamples) -> None:
    """Return to the last checkpoint, after writing which samples are skipped from now on."""
    state.skipped_samples = (*state.skipped_samples, skipped)
    if state.is_main:
        faults.write_skipped_samples(state.run.path / "checkpoints", state.skipped_samples)
    state.checkpoint_writer.wait()
    with state.strategy.busy("load"):
        checkpoint = find_checkpoint(state.run.path, state.strategy)
        assert checkpoint is not None  # one was saved before the first update
        progress = restore(
            checkpoint, state.strategy, state.model, state.parameters, state.optimizers, state.skipped_samples
        )
    details = {"from_step": state.progress.step, "first_sample": skipped.first, "end": skipped.end}
    state.monitor.log_event("rollback", progress.step, **details)
    state.monitor.reset_speed(Mark(progress.step, progress.tokens, progress.train_seconds))
    state.progress, state.saved_step = progress, progress.step
    state.pace.marks.clear()
    move_phases(state)


def diverge(state: TrainerState, description: str) -> NoReturn:
    """Raise DivergedError (6). Every rank sees the same sums, so all of them do."""
    state.checkpoint_writer.wait()
    folders = state.strategy.broadcast_object(checkpoint_folders.list_checkpoints(state.run.path / "checkpoints"))
    found = newest_valid(folders, state.strategy)
    kept = f"; {found.name} is kept" if found else ""
    rates = "--lr and training.matrix_lr" if state.job.recipe.optimizer == "muon" else "--lr"
    raise DivergedError(
        f"training diverged at step {state.progress.step + 1}: {description}{kept}",
        f"use a lower {rates} or a longer warm-up, with another -o",
    )
