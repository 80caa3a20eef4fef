"""Evaluation on the val split while training, and the samples of text that go with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

import torch

from gptctl.model.device import to_double
from gptctl.model.gpt import GPT
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.data.batch import Batch
from gptctl.train.data.data_source import DataSource
from gptctl.train.data.mixture import ValSources
from gptctl.train.fault_handling import diverge
from gptctl.train.monitor.heartbeat import WAITING
from gptctl.train.monitor.sample_text import generate_sample
from gptctl.train.state import TrainerState


def evaluate(state: TrainerState) -> None:
    """Evaluate on the val split, report the metrics, and save the weights if they are the best so far."""
    assert state.val_data is not None
    progress, job = state.progress, state.job
    state.monitor.update_live_view(phase="evaluating")
    metrics = split_metrics(state, state.val_data)
    if not metrics:
        return
    if not math.isfinite(metrics["loss"]):
        diverge(state, f"val loss {metrics['loss']}")
    progress.val, progress.val_step = metrics, progress.step
    value = metrics[job.select_on]
    lower_is_better = job.select_on == "loss"
    improved = progress.best is None or (value < progress.best if lower_is_better else value > progress.best)
    progress.stale_evaluations = 0 if improved else progress.stale_evaluations + 1
    if improved:
        progress.best, progress.best_step = value, progress.step
    progress.evaluations += 1
    named = {f"val_{name}": metrics[name] for name in metrics}
    by_source = {f"val_loss/{name}": loss for name, loss in progress.val_losses.items()}
    state.monitor.log_event("eval", progress.step, best=improved, **named, **by_source)
    state.monitor.update_live_view(phase="", best_loss=progress.best if lower_is_better else None, **named)
    if improved:
        state.strategy.heartbeat(progress.step, "save")
        state.checkpoint_writer.save_best(asdict(progress))
    if job.sample_every > 0 and progress.evaluations % job.sample_every == 0:
        write_sample(state)


@torch.no_grad()
def split_metrics(state: TrainerState, data: DataSource) -> dict[str, float]:
    """Return the objective's metrics over a split, of which each rank reads its part; {} if a signal came.

    The metrics of several sources are those of all their targets together. The loss of each is noted in the progress.
    """
    job, strategy, objective = state.job, state.strategy, state.objective
    sources = data.sources if isinstance(data, ValSources) else {"": data}
    sums = torch.stack([objective.init_metrics(state.model)] * len(sources))
    sums = to_double(sums.float().to(strategy.device))
    state.model.eval()
    for number, source in enumerate(sources.values()):
        for batch, counts in eval_batches(state, source, job.eval_batch_size):
            strategy.heartbeat(state.progress.step, "evaluate")
            with torch.autocast(strategy.device.type, torch.bfloat16, enabled=state.progress.precision == "bf16"):
                sums[number] += counts * objective.batch_metrics(state.model, batch.to(strategy.device))
    strategy.heartbeat(state.progress.step, WAITING)
    total = strategy.all_reduce(torch.cat((sums.flatten(), sums.new_tensor([float(state.signalled)]))))
    state.stop_requested = state.stop_requested or total[-1].item() > 0
    if state.stop_requested:
        return {}
    sums = total[:-1].view_as(sums)
    if isinstance(data, ValSources):
        losses = [objective.compute_metrics(one)["loss"] for one in sums]
        state.progress.val_losses = dict(zip(sources, losses, strict=True))
    return objective.compute_metrics(sums.sum(0))


def eval_batches(state: TrainerState, data: DataSource, size: int) -> Iterator[tuple[Batch, bool]]:
    """Yield this rank's batches of a split, and whether they count, until a signal comes.

    Where the model is sharded, all ranks take part in each forward pass. A rank that has read its part yields batches
    that do not count until the others have read theirs, and all ranks stop together.
    """
    strategy, job = state.strategy, state.job
    limit = job.eval_batches * job.recipe.batch_size
    batches = data.sequential(size, strategy.dp_rank, strategy.dims.dp_size, limit)
    while True:
        batch = next(batches, None)
        is_left, is_stopped = batch is not None, state.signalled
        if not strategy.dims.is_replicated:
            flags = torch.tensor([is_left, is_stopped]).double()
            is_left, is_stopped = (value > 0 for value in strategy.all_reduce(flags).tolist())
        if is_stopped or not is_left:
            return
        yield (data.batch(0, 1), False) if batch is None else (batch, True)


def write_sample(state: TrainerState) -> None:
    """Let the model generate a short text, if one rank can do so alone and there is a tokenizer."""
    job, model = state.job, state.model
    if state.is_main and state.strategy.dims.is_replicated and isinstance(model, GPT) and job.tokenizer_json:
        tokenizer = Tokenizer.from_json(job.tokenizer_json, SpecialTokens.from_extra(job.metadata))
        text = generate_sample(model, tokenizer, job.sample_prompt, job.seed, lambda: state.signalled)
        state.monitor.log_event("sample", state.progress.step, text=text)
        state.monitor.update_live_view(sample=text, sample_step=state.progress.step)
