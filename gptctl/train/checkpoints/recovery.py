"""Back to a checkpoint, or out: what follows from a resume and from a step that faults.py calls bad."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from torch import nn
from torch.optim import Optimizer

from gptctl.core.errors import DataError, DivergedError
from gptctl.core.run_folder import Run
from gptctl.train import faults
from gptctl.train.checkpoints import checkpoint
from gptctl.train.job import Model
from gptctl.train.monitor.monitor import Mark
from gptctl.train.state import Fit, State
from gptctl.train.strategies import Strategy


def find(run: Run, strategy: Strategy, warn: Callable[[str], None] | None = None) -> Path | None:
    """Return the newest good checkpoint, None if there is none at all. The first rank looks, for all.

    Raises DataError (3) if there are some, all of them damaged: beginning again without a word would cost days.
    """
    found = checkpoint.latest_valid(run.path, warn) if strategy.rank == 0 else None
    if strategy.rank == 0 and found is None and (lost := checkpoint.steps(run.path / "checkpoints")):
        raise DataError(f"every checkpoint is damaged: {lost[-1]}", "copy one back, or --force to start afresh")
    return strategy.broadcast_object(found)


def resume(
    found: Path,
    strategy: Strategy,
    model: Model,
    parameters: Mapping[str, nn.Parameter],
    optimizers: Sequence[Optimizer],
    passed_over: Sequence[faults.PassedOver],
) -> State:
    """Put a checkpoint's weights and optimizer state in place; give its state."""
    for optimizer in optimizers:
        optimizer.state.clear()
    state = State(**checkpoint.load(found, model, parameters, optimizers, strategy))
    for piece in passed_over:
        if piece.to_step == state.step:  # a rollback to here kept checkpoints/best, which may be later
            state.best, state.best_step = piece.best, piece.best_step
    return state


def meet(fitting: Fit, fault: faults.Kind, first: int, size: int, loss: float, norm: float) -> bool:
    """Deal with a bad step; tell whether its update is done all the same. Every rank sees the same sums, so all agree.

    Raises DivergedError (6) if training must end.
    """
    state, settings, watch = fitting.state, fitting.job.faults, fitting.watch
    rollbacks = sum(piece.to_step == fitting.saved_step for piece in fitting.passed_over)
    action = faults.choose(fault, settings, state.skips_in_a_row, rollbacks)
    watch.log_event(
        "fault", state.step + 1, what=fault, action=action, loss=loss, grad_norm=norm, first_sample=first, samples=size
    )
    what = f"loss {loss:.4g}, gradient norm {norm:.4g}"
    if fitting.first and action != "stop":
        done = {"warn": "are kept", "skip": "are skipped", "rollback": "and those around them are passed over"}[action]
        fitting.context.warn(f"step {state.step + 1}: {what}; samples {first} to {first + size - 1} {done}")
    if action == "stop":
        diverge(fitting, what)
    if action == "skip":
        state.samples, state.skips_in_a_row = first + size, state.skips_in_a_row + 1
    if action == "rollback":
        start, end = faults.around(first, size, rollbacks, settings)
        roll_back(fitting, faults.PassedOver(start, end, fitting.saved_step, fault, state.best, state.best_step))
    return action == "warn"


def roll_back(fitting: Fit, piece: faults.PassedOver) -> None:
    """Go back to the last checkpoint, after writing down which samples are passed over from now on."""
    fitting.passed_over = (*fitting.passed_over, piece)
    if fitting.first:
        faults.write_journal(fitting.run.path / "checkpoints", fitting.passed_over)
    fitting.writer.wait()
    found = find(fitting.run, fitting.strategy)
    assert found is not None  # one was saved before the first update
    state = resume(found, fitting.strategy, fitting.model, fitting.parameters, fitting.optimizers, fitting.passed_over)
    fields = {"from_step": fitting.state.step, "first_sample": piece.first, "end": piece.end}
    fitting.watch.log_event("rollback", state.step, **fields)
    fitting.watch.reset_speed(Mark(state.step, state.tokens, state.seconds))
    fitting.state, fitting.saved_step = state, state.step


def diverge(fitting: Fit, what: str) -> NoReturn:
    """Raise DivergedError; every rank sees the same sums, so all of them do."""
    fitting.writer.wait()
    found = checkpoint.latest_valid(fitting.run.path)
    kept = f"; {found.name} is kept" if found else ""
    raise DivergedError(
        f"training diverged at step {fitting.state.step + 1}: {what}{kept}",
        "lower --lr, or warm up for longer, with another -o",
    )
