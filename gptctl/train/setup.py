"""The setup of a run: build model, optimizers and data, and restore the newest checkpoint."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.run_folder import Run
from gptctl.model import device
from gptctl.model.config import ModelConfig
from gptctl.train import faults, schedule
from gptctl.train.checkpoints.async_writer import AsyncCheckpointWriter
from gptctl.train.checkpoints.load_checkpoint import read_progress
from gptctl.train.checkpoints.resume import find_checkpoint, restore
from gptctl.train.data.mixture import open_sources
from gptctl.train.data.phases import phase_starts
from gptctl.train.job import Model, TrainJob
from gptctl.train.monitor import device_stats
from gptctl.train.monitor.monitor import Mark, Monitor
from gptctl.train.objectives import Objective
from gptctl.train.planning.estimate import flops_per_token
from gptctl.train.planning.time_budget import Pace, read_plan, recorded_totals
from gptctl.train.progress import TrainProgress
from gptctl.train.state import TrainerState
from gptctl.train.strategies import Strategy


def setup(job: TrainJob, run: Run, context: Context, strategy: Strategy) -> TrainerState:
    """Return the state from which this rank trains: the initial one, or that of the newest valid checkpoint."""
    check_batch_size(job, strategy)
    threads = device.cpu_threads(strategy.local_world_size)
    device.configure_process(threads)
    with strategy.busy("verify"):
        checkpoint = find_checkpoint(run.path, strategy, context.warn)
    strategy.heartbeat(0, "build")
    model = job.model.build()
    progress = initial_progress(job, strategy, model.config, threads, checkpoint)
    job = replace(job, micro_batch_size=progress.micro_batch_size)
    parameters = strategy.prepare_model(model, progress.precision, progress.compiled)
    objective: Objective = plugins.load("gptctl.train.objectives", job.objective).build(job)
    objective.prepare(strategy, progress.precision, progress.compiled)
    build_optimizers = plugins.load("gptctl.train.optimizers", job.recipe.optimizer).build
    optimizers = build_optimizers(parameters, job.recipe, strategy, progress.optimizer_precision)
    skipped = faults.read_skipped_samples(run.path / "checkpoints")
    if checkpoint is None:
        with strategy.busy("build"):
            job.model.init_weights(model, {name: strategy.part_of(shard) for name, shard in parameters.items()})
            strategy.update_model()
    else:
        with strategy.busy("load"):
            progress = restore(checkpoint, strategy, model, parameters, optimizers, skipped)
        progress.micro_batch_size = job.micro_batch_size
        if progress.world_size != strategy.dims.world_size:
            progress.threads, progress.world_size = threads, strategy.dims.world_size
        torch.set_num_threads(progress.threads)  # another number of threads would add in another order
        if strategy.rank == 0:
            run.event("resumed", step=progress.step, checkpoint=checkpoint.name)
            context.info(f"going on from step {progress.step:,}, with checkpoint {checkpoint.name}")
    totals = planned_totals(job, run, strategy)
    if strategy.rank == 0:
        warn_of_warmup(job, model.config, totals[0][1], context)
    total_steps = schedule.total_at(totals, progress.step)
    planned_samples = schedule.samples_after(job.recipe, total_steps)
    progress.phase_starts = phase_starts(job.phases, planned_samples, progress.next_sample, progress.phase_starts)
    monitor = Monitor(run, context, strategy.rank == 0, total_steps, objective.unit)
    open_monitor(monitor, job, model, strategy, progress)
    writer = AsyncCheckpointWriter(run.path, job, strategy, model, parameters, optimizers)
    if checkpoint is not None:
        writer.verified.add(checkpoint)
    return TrainerState(
        job=job,
        run=run,
        context=context,
        strategy=strategy,
        objective=objective,
        model=model,
        parameters=parameters,
        optimizers=optimizers,
        checkpoint_writer=writer,
        train_data=open_sources(job.train_sources, job.phases, progress.phase_starts),
        val_data=job.val_data() if job.val_data else None,
        progress=progress,
        totals=totals,
        skipped_samples=skipped,
        monitor=monitor,
        saved_step=progress.step if checkpoint is not None else -1,
        first_step=progress.step,
        pace=Pace(time.monotonic),
        evaluation_seconds=job.time_budget.evaluation_seconds if job.time_budget else 0.0,
    )


def check_batch_size(job: TrainJob, strategy: Strategy) -> None:
    """Raise UsageError (2) if the smallest batch has fewer samples than there are shares."""
    smallest = schedule.batch_size(job.recipe, 0)
    if smallest < strategy.dims.dp_size:
        raise UsageError(
            f"a batch of {smallest} sequences cannot be split over {strategy.dims.dp_size} processes",
            "use a larger batch or fewer processes",
        )


def initial_progress(
    job: TrainJob, strategy: Strategy, config: ModelConfig, threads: int, checkpoint: Path | None
) -> TrainProgress:
    """Return the progress of a checkpoint, or that of a new run, with the precision that is fastest here.

    It is the first rank's choice for all, because machines may differ in what is fastest.
    """
    if checkpoint is not None:
        progress = TrainProgress(**read_progress(checkpoint))
        # The micro-batches of the run so far, because dropout depends on them, unless this device has less memory.
        recorded = progress.micro_batch_size if progress.world_size == strategy.dims.world_size else 0
        progress.micro_batch_size = min(recorded or job.micro_batch_size, job.micro_batch_size)
        return strategy.broadcast_object(progress)
    precision = job.precision
    optimizer_precision = "fp32" if job.precision == "fp32" else "bf16"
    if job.precision == "auto":
        precision = device.select_precision(strategy.device, config.hidden_size, config.vocab_size)
        optimizer_precision = device.optimizer_precision(strategy.device)
    return strategy.broadcast_object(
        TrainProgress(
            threads=threads,
            precision=precision,
            optimizer_precision=optimizer_precision,
            compiled=device.should_compile(strategy.device, job.compile),
            world_size=strategy.dims.world_size,
            micro_batch_size=job.micro_batch_size,
        )
    )


def planned_totals(job: TrainJob, run: Run, strategy: Strategy) -> list[tuple[int, int]]:
    """Return the steps at which the total of steps was planned, each with that total; the first rank reads them."""
    replanned = recorded_totals(read_plan(run.path)) if job.time_budget and strategy.rank == 0 else []
    return [(0, schedule.planned_steps(job.recipe, job.max_tokens)), *strategy.broadcast_object(replanned)]


def warn_of_warmup(job: TrainJob, config: ModelConfig, total_steps: int, context: Context) -> None:
    """Warn if the warm-up is missing where it is needed, or takes the whole run."""
    total_full_batches = schedule.samples_after(job.recipe, total_steps) / job.recipe.batch_size
    warmup_steps = job.recipe.warmup_steps
    if config.norm_position == "post" and not warmup_steps:
        # Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", 3: gradients are large at first
        context.warn("a model with post-norm needs a warm-up: set training.warmup_steps")
    if 0 < total_full_batches <= warmup_steps:
        context.warn(f"the warm-up ({warmup_steps} steps) is as long as the run: set training.warmup_steps")


def open_monitor(monitor: Monitor, job: TrainJob, model: Model, strategy: Strategy, progress: TrainProgress) -> None:
    """Let the monitor know the peak speed and the deadline, and open its loggers."""
    peak = device_stats.peak_flops(strategy.device, progress.precision, progress.threads)
    monitor.peak_flops = peak * strategy.dims.world_size
    if monitor.unit == "tokens":
        monitor.flops_per_token = flops_per_token(model.config, job.recipe.seq_len)
    if job.time_budget:
        now = time.monotonic()
        monitor.deadline = now + job.time_budget.seconds_left(now)
    monitor.open(job.loggers, Mark(progress.step, progress.tokens, progress.train_seconds))
