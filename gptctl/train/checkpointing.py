"""When the loop saves checkpoints, and what it reports about them."""

from __future__ import annotations

from dataclasses import asdict

from gptctl.core.errors import MachineError, StoppedError
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.state import TrainerState


def save_checkpoint(state: TrainerState) -> None:
    """Start to write a checkpoint, in a thread."""
    state.saved_step = state.progress.step
    state.strategy.heartbeat(state.progress.step, "save")
    state.checkpoint_writer.save(state.progress.step, asdict(state.progress))


def report_checkpoints(state: TrainerState) -> None:
    """Report complete checkpoints. Raises MachineError (4) on every rank if one could not be written."""
    if state.write_failed:
        state.checkpoint_writer.wait()  # raises this rank's own error, if it has one
        raise MachineError("another rank could not write its checkpoint", "see its message")
    for path in state.checkpoint_writer.take_finished():
        if path.name != checkpoint_folders.BEST:
            step = checkpoint_folders.step_of(path)
            state.monitor.log_event("checkpoint", step, path=path.name)
            state.monitor.update_live_view(checkpoint=step)


def stop_if_requested(state: TrainerState) -> None:
    """After a signal, save a checkpoint and raise StoppedError."""
    if not state.stop_requested:
        return
    if state.saved_step != state.progress.step:
        save_checkpoint(state)
    state.checkpoint_writer.wait()
    report_checkpoints(state)
    message = f"training stopped after step {state.progress.step}"
    state.context.stop.check(message)
    raise StoppedError(message, "run the same command again to resume")
