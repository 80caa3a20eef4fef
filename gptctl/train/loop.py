"""The training loop. Pretraining and finetuning differ only in the job that they pass to it."""

from __future__ import annotations

import time
from typing import Any

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train import gc_control, loggers
from gptctl.train.checkpointing import report_checkpoints, save_checkpoint, stop_if_requested
from gptctl.train.evaluation import evaluate
from gptctl.train.job import Model, TrainJob
from gptctl.train.setup import setup
from gptctl.train.source_metrics import source_metrics
from gptctl.train.state import TrainerState
from gptctl.train.step import train_step
from gptctl.train.strategies import Strategy
from gptctl.train.time_control import replan

COLLECT_EVERY = 100  # updates between two garbage collections


def train(job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Train until the steps, tokens, time or patience are used up, resuming from the newest valid checkpoint.

    Return steps, tokens, train_loss, val_loss (and the objective's other metrics as val_*), tokens_per_second,
    parameters, best_step. A loss or gradient that is not finite never changes a weight: job.faults says what happens
    then, and DivergedError (6) is raised if training must end. After a signal the state is saved and StoppedError
    raised (130, 143, or 138 for SIGUSR1).
    """
    loggers.check(job.loggers)
    module = plugins.load("gptctl.train.strategies", job.strategy if job.world_size > 1 else "single")
    metrics: dict[str, Any] = module.launch(train_rank, job, run, context)
    return metrics


def train_rank(job: TrainJob, run: Run, context: Context, strategy: Strategy) -> dict[str, Any]:
    """Train as one rank."""
    with gc_control.paused():
        state = setup(job, run, context, strategy)
        try:
            return run_loop(state)
        finally:
            state.batch_reader.close()
            state.checkpoint_writer.close()
            state.monitor.close()


def run_loop(state: TrainerState) -> dict[str, Any]:
    """Alternate steps, evaluations and checkpoints until a budget is used up, and return the final metrics."""
    job, is_frozen = state.job, False
    while True:
        progress = state.progress  # a rollback replaces it
        replan(state)
        is_last = progress.step >= state.total_steps or should_stop_early(state)
        is_evaluated = state.val_data is None or progress.val_step == progress.step
        if not is_evaluated and (is_last or is_due(progress.step, job.eval_every)):
            began = time.perf_counter()
            evaluate(state)
            state.evaluation_seconds = time.perf_counter() - began
            is_last = is_last or should_stop_early(state)
        stop_if_requested(state)
        needs_first = state.saved_step < 0 and job.faults.may_roll_back  # a rollback needs a checkpoint to return to
        saves_now = is_last or needs_first or is_due(progress.step, job.checkpoint_every)
        if saves_now and state.saved_step != progress.step:
            save_checkpoint(state)
        if is_last:
            state.checkpoint_writer.wait()
        report_checkpoints(state)
        if is_last:
            return final_metrics(state)
        train_step(state)
        if not is_frozen:
            gc_control.freeze()
            is_frozen = True
        elif progress.step % COLLECT_EVERY == 0:
            gc_control.collect()


def is_due(step: int, every: int) -> bool:
    """Return whether something that happens every so many steps happens after this one."""
    return every > 0 and step > 0 and step % every == 0


def should_stop_early(state: TrainerState) -> bool:
    """Return whether `patience` evaluations in a row brought no improvement."""
    return 0 < state.job.patience <= state.progress.stale_evaluations


def final_metrics(state: TrainerState) -> dict[str, Any]:
    """Return the metrics of the finished run."""
    progress = state.progress
    train_loss = progress.loss_sum / progress.loss_targets if progress.loss_targets else progress.train_loss
    return {
        "steps": progress.step,
        "tokens": progress.tokens,
        "train_loss": train_loss,
        **{f"val_{name}": value for name, value in progress.val.items()},
        "tokens_per_second": round(progress.tokens / max(1e-9, progress.train_seconds), 1),
        "parameters": count_parameters(state.model),
        "best_step": progress.best_step,
        "train_seconds": round(progress.train_seconds, 3),
        **({"sources": source_metrics(state)} if state.job.train_sources[0].name else {}),
    }


def count_parameters(model: Model) -> int:
    """Count the parameters of a model without the padding of the vocabulary."""
    config = model.config
    tables = 1 if config.tie_embeddings else 2
    padding = (config.padded_vocab_size - config.vocab_size) * config.hidden_size * tables
    return sum(parameter.numel() for parameter in model.parameters()) - padding
