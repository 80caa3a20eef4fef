"""What the loop reports after a step: loss, learning rate and gradient norm, and slow ranks."""

from __future__ import annotations

from gptctl.train.monitor import device_stats
from gptctl.train.monitor.monitor import Mark
from gptctl.train.state import TrainerState


def report_step(state: TrainerState, loss: float, grad_norm: float, rates: dict[str, float]) -> None:
    """Write a "step" event every log_every steps and after the last one, with the means since the one before."""
    progress = state.progress
    if progress.step % state.job.log_every and progress.step != state.total_steps:
        state.monitor.show_progress(progress.step, at_once=False, loss=loss, **rates, grad_norm=grad_norm)
        return
    progress.train_loss = progress.loss_sum / max(1, progress.loss_targets)
    sums = dict(zip(state.objective.step_metrics, progress.metric_sums, strict=True))
    metrics = {name: value / max(1, progress.loss_targets) for name, value in sums.items()}
    progress.loss_sum, progress.loss_targets, progress.metric_sums = 0.0, 0, []
    mark = Mark(progress.step, progress.tokens, progress.train_seconds)
    memory = device_stats.memory_bytes(state.strategy.device)
    state.monitor.log_step(mark, memory, loss=progress.train_loss, **rates, grad_norm=grad_norm, **metrics)


def warn_of_stragglers(state: TrainerState, share_seconds: list[float]) -> None:
    """Report the ranks that the others wait for, each of them once to the user."""
    for rank, factor in state.stragglers.add(share_seconds).items():
        state.monitor.log_event("straggler", state.progress.step, rank=rank, factor=round(factor, 2))
        if state.is_main and rank not in state.stragglers.warned:
            state.stragglers.warned.add(rank)
            state.context.warn(f"rank {rank} takes {factor:.1f} times as long as the others for its share of a step")
