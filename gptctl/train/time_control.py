"""The loop's part in keeping to the minutes of a run: at fixed steps it plans the number of steps again."""

from __future__ import annotations

from gptctl.train import schedule
from gptctl.train.data.mixture import Mixture
from gptctl.train.data.phases import Phases, phase_starts
from gptctl.train.planning.time_budget import record_total
from gptctl.train.state import TrainerState


def replan(state: TrainerState) -> None:
    """Plan the total of steps again if that is due, record it, and let every rank know."""
    budget, progress, pace = state.job.time_budget, state.progress, state.pace
    if budget is None:
        return
    step = progress.step
    if step > state.first_step and not pace.marks:  # the first step is slower than others: it compiles and allocates
        pace.mark(step)
    is_due = step > 0 and step % budget.interval == 0 and state.job.recipe.warmup_steps <= step < state.total_steps
    if is_due and all(step != first for first, _ in state.totals):
        planned = pace.total_steps(budget, step, state.total_steps, state.evaluation_seconds)
        total = state.strategy.broadcast_object(planned)
        state.totals.append((step, total))
        if state.is_main:
            record_total(state.run.path, step, total)
            state.monitor.log_event("replan", step, steps=total)
    if any(step == first for first, _ in state.totals):
        move_phases(state)
    if is_due:
        pace.mark(step)
    state.monitor.total_steps = state.total_steps


def move_phases(state: TrainerState) -> None:
    """Let the phases of a mixture that have not begun begin at their share of the total that is planned now."""
    job, progress, mixture = state.job, state.progress, state.train_data
    if not isinstance(mixture, Mixture):
        return
    samples = schedule.samples_after(job.recipe, state.total_steps)
    progress.phase_starts = phase_starts(job.phases, samples, progress.next_sample, progress.phase_starts)
    mixture.phases = Phases(job.phases, progress.phase_starts)
    state.batch_reader.forget()
