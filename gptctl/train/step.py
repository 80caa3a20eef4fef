"""One training step: gradients over micro-batches and ranks, the check for faults, and the update."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gptctl.core.seeds import derive
from gptctl.train import faults, schedule
from gptctl.train.fault_handling import handle_fault
from gptctl.train.monitor.heartbeat import WAITING
from gptctl.train.source_metrics import count_sources
from gptctl.train.state import TrainerState
from gptctl.train.step_logging import report_step, warn_of_stragglers
from gptctl.train.step_sums import RankSums


@dataclass(frozen=True)
class StepResult:
    """What a forward and backward pass over a whole batch found."""

    loss_sum: float
    targets: int
    grad_norm: float  # of the mean over targets
    metric_sums: list[float]  # of the objective's step_metrics

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return self.loss_sum / self.targets


def train_step(state: TrainerState) -> None:
    """Train on the next batch.

    Gradients of summed losses are added up over micro-batches and ranks, and divided once by the number of targets in
    all of them. So the way a batch is cut cannot change the update (beyond rounding).
    """
    began = time.perf_counter()
    progress = state.progress
    size = schedule.batch_size(state.job.recipe, progress.trained_samples)
    first = faults.next_batch_start(progress.next_sample, size, state.skipped_samples)
    samples = range(first, first + size)
    found = compute_gradients(state, samples)
    if found is None:
        zero_grad(state)
        return
    fault = faults.detect_fault(found.loss, found.grad_norm, progress.recent_losses, state.job.faults)
    if fault and not handle_fault(state, fault, samples, found.loss, found.grad_norm):
        zero_grad(state)
        return
    rates = update_parameters(state, found)
    progress.step += 1
    progress.next_sample, progress.trained_samples = samples.stop, progress.trained_samples + size
    progress.consecutive_skips = 0
    progress.recent_losses = faults.append_loss(progress.recent_losses, found.loss, state.job.faults)
    progress.tokens += found.targets
    count_sources(state, samples)
    progress.loss_sum += found.loss_sum
    progress.loss_targets += found.targets
    progress.metric_sums = add_sums(progress.metric_sums, found.metric_sums)
    progress.train_seconds += time.perf_counter() - began
    report_step(state, loss=found.loss, grad_norm=found.grad_norm, rates=rates)


def update_parameters(state: TrainerState, found: StepResult) -> dict[str, float]:
    """Clip the gradients, let the optimizers update, and return the learning rates by their keys in the recipe."""
    recipe, progress = state.job.recipe, state.progress
    clip = min(1.0, recipe.grad_clip / (found.grad_norm + 1e-6)) if recipe.grad_clip else 1.0
    gradients = [parameter.grad for parameter in state.parameters.values() if parameter.grad is not None]
    torch._foreach_mul_(gradients, clip / found.targets)
    factor = schedule.planned_lr_factor(recipe, state.totals, progress.trained_samples / recipe.batch_size)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        optimizer.step()
    state.strategy.update_model()
    zero_grad(state)
    keys = ("lr", "matrix_lr") if recipe.optimizer == "muon" else ("lr",)
    return {key: factor * getattr(recipe, key) for key in keys}


def zero_grad(state: TrainerState) -> None:
    """Drop all gradients."""
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)


def compute_gradients(state: TrainerState, samples: range) -> StepResult | None:
    """Add up the gradients of a batch over micro-batches and ranks.

    Return None if a signal came before the last micro-batch: then the step ends, unless other ranks wait for this one.
    """
    job, progress, strategy = state.job, state.progress, state.strategy
    sums = RankSums(strategy.device, strategy.dims.dp_size, len(state.objective.step_metrics))
    state.share_timer.start()
    state.model.train()
    passes = list(micro_batches(state, samples))
    for number, micro_batch in enumerate(passes):
        if number and strategy.dims.world_size == 1 and state.signalled:
            state.stop_requested = True
            return None
        strategy.heartbeat(progress.step + 1, "read")
        is_repeat = not micro_batch
        if not is_repeat:
            following = passes[number + 1] if any(passes[number + 1 :]) else next_micro_batch(state, samples)
            batch = state.batch_reader.read(micro_batch, following)
        strategy.heartbeat(progress.step + 1, "update")
        torch.manual_seed(derive(job.seed, "dropout", progress.step, number, strategy.dp_rank))
        with torch.autocast(strategy.device.type, torch.bfloat16, enabled=progress.precision == "bf16"):
            loss, targets, metrics = state.objective.loss(state.model, batch)
        if is_repeat:
            loss, targets = loss * 0, targets * 0
            metrics = None
        strategy.start_backward(is_last=number == len(passes) - 1)
        loss.backward()  # type: ignore[no-untyped-call]
        sums.add(loss, targets, metrics)
    sums.share_seconds[strategy.dp_rank] = state.share_timer.stop()
    strategy.heartbeat(progress.step + 1, WAITING)
    strategy.reduce_gradients(state.parameters)
    sums.squared_grad_norm = strategy.squared_grad_norm(state.parameters.values())
    return reduce_step(state, sums)


def reduce_step(state: TrainerState, sums: RankSums) -> StepResult:
    """Add the numbers of a step up over ranks, and note what any rank has to say."""
    strategy = state.strategy
    sums.stop_requested = state.signalled
    sums.write_failed = state.checkpoint_writer.failed
    total = sums.all_reduce(strategy)
    state.stop_requested, state.write_failed = total.stop_requested > 0, total.write_failed > 0
    if strategy.dims.is_replicated and strategy.dims.world_size > 1:  # sharded ranks wait for each other in every block
        warn_of_stragglers(state, total.share_seconds)
    targets = max(1, round(total.targets))
    return StepResult(total.loss, targets, math.sqrt(total.squared_grad_norm) / targets, total.metrics)


def add_sums(one: list[float], other: list[float]) -> list[float]:
    """Return the sums of two lists of sums, of which the first may be empty."""
    return [a + b for a, b in zip(one, other, strict=True)] if one else other


def micro_batches(state: TrainerState, samples: range) -> Iterator[range]:
    """Yield the samples of each of this rank's forward passes.

    Where the model is sharded, all ranks take part in each pass. A rank without samples left yields empty ranges, as
    many as the largest share has passes.
    """
    dims = state.strategy.dims
    own = rank_share(samples, state.strategy.dp_rank, dims.dp_size)
    largest_share = -(-len(samples) // dims.dp_size)
    size = state.job.micro_batch_size or largest_share
    for start in range(own.start, own.start + largest_share, size):
        micro_batch = range(start, min(start + size, own.stop))
        if not micro_batch and dims.is_replicated:
            return
        yield micro_batch


def next_micro_batch(state: TrainerState, samples: range) -> range | None:
    """Return the samples of this rank's first forward pass after a batch, or None after the last batch."""
    progress = state.progress
    if progress.step + 1 >= state.total_steps:
        return None
    size = schedule.batch_size(state.job.recipe, progress.trained_samples + len(samples))
    first = faults.next_batch_start(samples.stop, size, state.skipped_samples)
    return next(micro_batches(state, range(first, first + size)), None)


def rank_share(samples: range, rank: int, world_size: int) -> range:
    """Return one rank's samples of a batch; shares differ by one sample at most."""
    size = len(samples)
    return range(samples.start + size * rank // world_size, samples.start + size * (rank + 1) // world_size)
