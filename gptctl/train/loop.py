"""The one training loop: pretraining and finetuning differ only in the job they hand in.

train(job)          picks the strategy, which calls fit() once per rank
  fit(...)          resumes, then alternates updates, evaluations and checkpoints until a budget is used up
    update(...)     one step: micro-batches, one reduction over ranks, one division by the number of targets
    recovery.meet   a step whose loss or gradient is bad: skip it, roll back, or stop (see faults.py)
    evaluate(...)   the whole val split
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.errors import MachineError, StoppedError, UsageError
from gptctl.core.run_folder import Run
from gptctl.core.seeds import derive
from gptctl.model import device
from gptctl.model.gpt import GPT
from gptctl.train import faults, gc_control, schedule
from gptctl.train.checkpoints import checkpoint, recovery
from gptctl.train.checkpoints.async_writer import Writer
from gptctl.train.data.token_windows import Samples
from gptctl.train.distributed.choose_strategy import choose_strategy
from gptctl.train.job import Model, TrainJob
from gptctl.train.monitor import sample_text, throughput
from gptctl.train.monitor.heartbeat import WAITING
from gptctl.train.monitor.monitor import Mark, Monitor
from gptctl.train.planning.estimate import flops_per_token
from gptctl.train.state import Fit, State
from gptctl.train.strategies import Strategy

MIN_EVAL_BATCH = 32
COLLECT_EVERY = 100  # updates between two looks at what Python's reference counts cannot free


def train(job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Train until the steps, tokens, minutes or patience are used up, resuming from the newest good checkpoint.

    Gives steps, tokens, train_loss, val_loss (and the objective's other metrics as val_*), tokens_per_second,
    parameters, best_step. A loss or gradient that is not finite never touches a weight: job.faults says what happens
    then, and DivergedError (6) is raised if training must end; StoppedError (130, 143, 138 for SIGUSR1) after a signal,
    with the state saved.
    """
    for name in job.loggers:
        plugins.load("gptctl.train.loggers", name).check()
    job = replace(job, strategy=choose_strategy(job))
    module = plugins.load("gptctl.train.strategies", job.strategy)
    metrics: dict[str, Any] = module.launch(fit, job, run, context)
    return metrics


def fit(job: TrainJob, run: Run, context: Context, strategy: Strategy) -> dict[str, Any]:
    """Train as one rank among `strategy.dims.world_size`."""
    with gc_control.paused():
        fitting = begin(job, run, context, strategy)
        try:
            return go_on(fitting)
        finally:
            fitting.writer.close()
            fitting.watch.close()


def go_on(fitting: Fit) -> dict[str, Any]:
    """Alternate updates, evaluations and checkpoints until a budget is used up."""
    job, frozen = fitting.job, False
    while True:
        state = fitting.state  # a rollback puts another one in its place
        last = state.step >= fitting.total_steps or fitting.out_of_time or impatient(fitting)
        if fitting.val_data is not None and state.val_step != state.step and (last or due(state.step, job.eval_every)):
            assess(fitting)
            last = last or impatient(fitting)
        stop_if_asked(fitting)
        start = fitting.saved_step < 0 and job.faults.may_roll_back  # there must be something to roll back to
        if fitting.saved_step != state.step and (last or start or due(state.step, job.checkpoint_every)):
            save(fitting)
        if last:
            fitting.writer.wait()
        note_checkpoints(fitting)
        if last:
            return result(fitting)
        update(fitting)
        if not frozen:
            gc_control.freeze()
            frozen = True
        elif state.step % COLLECT_EVERY == 0:
            gc_control.collect()


def due(step: int, every: int) -> bool:
    """Return whether something that happens every so many steps happens now."""
    return every > 0 and step > 0 and step % every == 0


def begin(job: TrainJob, run: Run, context: Context, strategy: Strategy) -> Fit:
    """Build everything afresh, then lay the newest good checkpoint over it."""
    recipe = job.recipe
    if (smallest := schedule.batch_size(recipe, 0)) < strategy.dims.dp_size:
        raise UsageError(
            f"a batch of {smallest} sequences cannot be split over {strategy.dims.dp_size} processes",
            "use a larger batch or fewer processes",
        )
    threads = device.cpu_threads(strategy.local_world_size)
    device.configure_process(threads)
    found = recovery.find(run, strategy, context.warn)
    strategy.heartbeat(0, "build")
    model = job.build_model()
    if model.config.norm_position == "post" and not recipe.warmup_steps and strategy.rank == 0:
        # Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", 3: gradients start large
        context.warn("norms after each part need a warm-up: set training.warmup_steps")
    precision = job.precision
    if precision == "auto":
        precision = device.select_precision(strategy.device, model.config.hidden_size)
    state = State(
        threads=threads,
        precision=precision,
        update_precision=device.optimizer_precision(strategy.device) if job.precision == "auto" else job.precision,
        compiled=device.should_compile(strategy.device, job.compile),
        ranks=strategy.dims.world_size,
    )
    if found is not None:
        state = State(**checkpoint.read_state(found))
    state = strategy.broadcast_object(state)  # machines may differ in what is fastest on them
    parameters = strategy.prepare_model(model, state.precision, state.compiled)
    build = plugins.load("gptctl.train.optimizers", recipe.optimizer).build
    optimizers = build(parameters, recipe, strategy, state.update_precision)
    passed_over = faults.read_journal(run.path / "checkpoints")
    if found is not None:
        strategy.heartbeat(0, "load")
        state = recovery.resume(found, strategy, model, parameters, optimizers, passed_over)
        if state.ranks != strategy.dims.world_size:
            state.threads, state.ranks = threads, strategy.dims.world_size
        torch.set_num_threads(state.threads)  # another count would add in another order
        if strategy.rank == 0:
            run.event("resumed", step=state.step, checkpoint=found.name)
    total_steps = recipe.steps
    if job.max_tokens:
        total_steps = min(total_steps, schedule.steps_for(recipe, math.ceil(job.max_tokens / recipe.seq_len)))
    total_batches = schedule.samples_after(recipe, total_steps) / recipe.batch_size
    if 0 < total_batches <= recipe.warmup_steps and strategy.rank == 0:
        context.warn(f"the warm-up ({recipe.warmup_steps} steps) is as long as the run: set training.warmup_steps")
    started = time.monotonic() - 60 * state.minutes
    objective = plugins.load("gptctl.train.objectives", job.objective)
    watch = Monitor(run, context, strategy.rank == 0, total_steps, objective.UNIT)
    watch.peak_flops = throughput.peak_flops(strategy.device, state.precision, state.threads) * strategy.dims.world_size
    if objective.UNIT == "tokens":
        watch.flops_per_token = flops_per_token(model.config, recipe.seq_len)
    if job.max_minutes:
        watch.deadline = started + 60 * job.max_minutes
    watch.open(job.loggers, Mark(state.step, state.tokens, state.seconds))
    return Fit(
        job=job,
        run=run,
        context=context,
        strategy=strategy,
        objective=objective,
        model=model,
        parameters=parameters,
        optimizers=optimizers,
        writer=Writer(run.path, job, strategy, model, parameters, optimizers),
        train_data=job.train_data(),
        val_data=job.val_data() if job.val_data else None,
        state=state,
        total_steps=total_steps,
        total_batches=total_batches,
        passed_over=passed_over,
        watch=watch,
        saved_step=state.step if found is not None else -1,
        started=started,
    )


def update(fitting: Fit) -> None:
    """Do one step on the next batch.

    Gradients of summed losses are added up over micro-batches and ranks and divided once by the number of targets in
    all of them, so how a batch is cut cannot change the update (beyond rounding).
    """
    began = time.perf_counter()
    job, state = fitting.job, fitting.state
    size = schedule.batch_size(job.recipe, state.trained)
    first = faults.next_sample(state.samples, size, fitting.passed_over)
    summed = accumulate(fitting, first, size)
    if summed is None:
        drop_gradients(fitting)
        return
    loss, targets, norm = summed
    fault = faults.judge(loss / targets, norm, state.recent, job.faults)
    if fault and not recovery.meet(fitting, fault, first, size, loss / targets, norm):
        drop_gradients(fitting)
        return
    clipped = min(1.0, job.recipe.clip / (norm + 1e-6)) if job.recipe.clip else 1.0
    gradients = [parameter.grad for parameter in fitting.parameters.values() if parameter.grad is not None]
    torch._foreach_mul_(gradients, clipped / targets)
    share = schedule.lr_share(job.recipe, state.trained / job.recipe.batch_size, fitting.total_batches)
    for optimizer in fitting.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.samples, state.trained, state.skips_in_a_row = first + size, state.trained + size, 0
    state.recent = faults.remember(state.recent, loss / targets, job.faults)
    state.tokens += targets
    state.loss_sum += loss
    state.loss_count += targets
    state.seconds += time.perf_counter() - began
    if state.step % job.log_every == 0 or state.step == fitting.total_steps:
        log(fitting, share * job.recipe.lr, norm)
    else:
        lr = share * job.recipe.lr
        fitting.watch.show_progress(state.step, at_once=False, loss=loss / targets, grad_norm=norm, lr=lr)


def drop_gradients(fitting: Fit) -> None:
    """Forget a step."""
    for optimizer in fitting.optimizers:
        optimizer.zero_grad(set_to_none=True)


def accumulate(fitting: Fit, first: int, samples: int) -> tuple[float, int, float] | None:
    """Add up gradients over the micro-batches and ranks of one step on so many samples from `first` on.

    Gives the step's summed loss, its number of targets and the norm of its gradient; None if a signal came before the
    last micro-batch, which ends the step where no other rank waits for this one.
    """
    began = time.perf_counter()
    job, state, strategy = fitting.job, fitting.state, fitting.strategy
    mine = rank_share(samples, strategy.dp_rank, strategy.dims.dp_size)
    size = job.micro_batch_size or len(mine)
    largest = -(-samples // strategy.dims.dp_size) if job.micro_batch_size else size
    # loss, targets, squares of gradients; a signal came, the time is up, a write failed; then the seconds of each share
    sums = torch.zeros(6 + strategy.dims.dp_size, dtype=torch.float64)
    fitting.model.train()
    for micro, at in enumerate(range(mine.start, mine.start + largest, size)):
        if micro and strategy.dims.world_size == 1 and fitting.context.stop.signal_number is not None:
            fitting.stopping = True
            return None
        idle = at >= mine.stop
        if idle and strategy.dims.is_replicated:
            break
        strategy.heartbeat(state.step + 1, "read")
        if not idle:
            batch = fitting.train_data.batch(first + at, min(size, mine.stop - at)).to(strategy.device)
        strategy.heartbeat(state.step + 1, "update")
        torch.manual_seed(derive(job.seed, "dropout", state.step, micro, strategy.dp_rank))
        with torch.autocast(strategy.device.type, torch.bfloat16, enabled=state.precision == "bf16"):
            loss, count = fitting.objective.loss(fitting.model, batch, job.recipe)
        if idle:  # where ranks hold parts of the model, a pass takes all: who has no samples left repeats some
            loss, count = loss * 0, count * 0
        loss.backward()
        sums[0] += loss.item()
        sums[1] += count.item()
    sums[6 + strategy.dp_rank] = time.perf_counter() - began
    strategy.heartbeat(state.step + 1, WAITING)
    strategy.reduce_gradients(fitting.parameters)
    sums[2] = strategy.squared_grad_norm(fitting.parameters.values())
    sums[3] = fitting.context.stop.signal_number is not None
    sums[4] = fitting.first and 0 < job.max_minutes <= minutes(fitting)
    sums[5] = fitting.writer.failed
    total, targets, squares, signals, late, unwritten, *seconds = strategy.all_reduce(sums).tolist()
    fitting.stopping, fitting.out_of_time, fitting.unwritten = signals > 0, late > 0, unwritten > 0
    if strategy.dims.is_replicated and strategy.dims.world_size > 1:  # elsewhere all wait for each other in every block
        note_stragglers(fitting, seconds)
    targets = max(1, round(targets))
    return total, targets, math.sqrt(squares) / targets


def note_stragglers(fitting: Fit, seconds: list[float]) -> None:
    """Say which ranks hold up the others."""
    for rank, factor in fitting.stragglers.add(seconds).items():
        fitting.watch.log_event("straggler", fitting.state.step, rank=rank, factor=round(factor, 2))
        if fitting.first and rank not in fitting.stragglers.warned:
            fitting.stragglers.warned.add(rank)
            fitting.context.warn(f"rank {rank} takes {factor:.1f} times as long as others for its share of a step")


def rank_share(batch_size: int, rank: int, ranks: int) -> range:
    """Return the samples of a step that are one rank's, as even as can be."""
    return range(batch_size * rank // ranks, batch_size * (rank + 1) // ranks)


def minutes(fitting: Fit) -> float:
    """Return the time since the very start of the run, without interruptions."""
    return (time.monotonic() - fitting.started) / 60


@torch.no_grad()
def evaluate(fitting: Fit, data: Samples) -> dict[str, float]:
    """Return the objective's metrics over a whole split, of which each rank reads its part; {} if a signal came."""
    job, strategy = fitting.job, fitting.strategy
    size = job.eval_batch_size or max(MIN_EVAL_BATCH, job.micro_batch_size or job.recipe.batch_size)
    tallied = fitting.objective.blank(fitting.model)
    fitting.model.eval()
    for batch, counts in in_step(fitting, data, size):
        strategy.heartbeat(fitting.state.step, "evaluate")
        with torch.autocast(strategy.device.type, torch.bfloat16, enabled=fitting.state.precision == "bf16"):
            tallied += counts * fitting.objective.tally(fitting.model, batch.to(strategy.device), job.recipe)
    strategy.heartbeat(fitting.state.step, WAITING)
    stopped = torch.tensor([float(fitting.context.stop.signal_number is not None)], dtype=torch.float64)
    summed = strategy.all_reduce(torch.cat((tallied, stopped)))
    fitting.stopping = fitting.stopping or summed[-1].item() > 0
    if fitting.stopping:
        return {}
    metrics: dict[str, float] = fitting.objective.metrics(summed[:-1])
    return metrics


def in_step(fitting: Fit, data: Samples, size: int) -> Iterator[tuple[Tensor, bool]]:
    """Give this rank's batches of a split, until a signal comes, and whether they count.

    Where ranks hold parts of the model, a pass takes all of them: who has read its part gives what does not count
    until the others have, too, and all hear of a signal at once.
    """
    strategy, stop = fitting.strategy, fitting.context.stop
    batches = data.sequential(size, strategy.dp_rank, strategy.dims.dp_size)
    while True:
        batch = next(batches, None)
        left, stopped = batch is not None, stop.signal_number is not None
        if not strategy.dims.is_replicated:
            flags = torch.tensor([left, stopped]).double()
            left, stopped = (value > 0 for value in strategy.all_reduce(flags).tolist())
        if stopped or not left:
            return
        yield (data.batch(0, 1), False) if batch is None else (batch, True)


def assess(fitting: Fit) -> None:
    """Evaluate on the val split, note it, and keep the weights if they are the best so far."""
    assert fitting.val_data is not None
    state, job = fitting.state, fitting.job
    fitting.watch.update_live_view(phase="evaluating")
    metrics = evaluate(fitting, fitting.val_data)
    if not metrics:
        return
    if not math.isfinite(metrics["loss"]):
        recovery.diverge(fitting, f"val loss {metrics['loss']}")
    state.val, state.val_step = metrics, state.step
    value = metrics[job.select_on]
    lower_is_better = job.select_on == "loss"
    better = state.best is None or (value < state.best if lower_is_better else value > state.best)
    state.stale_evaluations = 0 if better else state.stale_evaluations + 1
    if better:
        state.best, state.best_step = value, state.step
    state.evaluations += 1
    named = {f"val_{name}": metrics[name] for name in metrics}
    fitting.watch.log_event("eval", state.step, best=better, **named)
    fitting.watch.update_live_view(phase="", best_loss=state.best if lower_is_better else None, **named)
    if better:
        fitting.strategy.heartbeat(state.step, "save")
        fitting.writer.save_best(asdict(state))
    if due(state.evaluations, job.sample_every):
        write_excerpt(fitting)


def write_excerpt(fitting: Fit) -> None:
    """Let the model write some text, where one rank can do so alone and there is a tokenizer."""
    job, model = fitting.job, fitting.model
    if fitting.first and fitting.strategy.dims.is_replicated and isinstance(model, GPT) and job.tokenizer_json:
        stop = fitting.context.stop
        text = sample_text.generate_sample(
            model, job.tokenizer_json, job.sample_prompt, job.seed, lambda: stop.signal_number is not None
        )
        fitting.watch.log_event("sample", fitting.state.step, text=text)
        fitting.watch.update_live_view(sample=text, sample_step=fitting.state.step)


def impatient(fitting: Fit) -> bool:
    """Return whether `patience` evaluations in a row brought nothing better."""
    return 0 < fitting.job.patience <= fitting.state.stale_evaluations


def log(fitting: Fit, lr: float, norm: float) -> None:
    """Add one line to events.jsonl and move the progress bar."""
    state = fitting.state
    state.train_loss = state.loss_sum / max(1, state.loss_count)
    state.loss_sum, state.loss_count = 0.0, 0
    memory = throughput.memory_bytes(fitting.strategy.device)
    mark = Mark(state.step, state.tokens, state.seconds)
    fitting.watch.log_step(mark, memory, loss=state.train_loss, lr=lr, grad_norm=norm)


def save(fitting: Fit) -> None:
    """Begin to write a checkpoint, in a thread, and to remove old ones."""
    fitting.state.minutes = minutes(fitting)
    fitting.saved_step = fitting.state.step
    fitting.strategy.heartbeat(fitting.state.step, "save")
    fitting.writer.save(fitting.state.step, asdict(fitting.state))


def note_checkpoints(fitting: Fit) -> None:
    """Say which checkpoints are written by now. Raises MachineError (4) on every rank if one could not be."""
    if fitting.unwritten:
        fitting.writer.wait()  # raises what went wrong here
        raise MachineError("another rank could not write its checkpoint", "see its message")
    for path in fitting.writer.finished():
        if path.name != checkpoint.BEST:
            step = int(path.name.removeprefix("step-"))
            fitting.watch.log_event("checkpoint", step, path=path.name)
            fitting.watch.update_live_view(checkpoint=step)


def stop_if_asked(fitting: Fit) -> None:
    """After a signal, save and raise StoppedError."""
    if not fitting.stopping:
        return
    if fitting.saved_step != fitting.state.step:
        save(fitting)
    fitting.writer.wait()
    note_checkpoints(fitting)
    fitting.context.stop.check(f"training stopped after step {fitting.state.step}")
    raise StoppedError(f"training stopped after step {fitting.state.step}", "run the same command again to go on")


def result(fitting: Fit) -> dict[str, Any]:
    """Return the metrics of the finished run."""
    state = fitting.state
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "train_loss": state.loss_sum / state.loss_count if state.loss_count else state.train_loss,
        **{f"val_{name}": value for name, value in state.val.items()},
        "tokens_per_second": round(state.tokens / max(1e-9, state.seconds), 1),
        "parameters": sum(parameter.numel() for parameter in fitting.model.parameters()) - padding(fitting.model),
        "best_step": state.best_step,
        "train_seconds": round(state.seconds, 3),
    }


def padding(model: Model) -> int:
    """Count the parameters that only fill the vocabulary up."""
    config = model.config
    return (config.padded_vocab_size - config.vocab_size) * config.hidden_size * (1 if config.tie_embeddings else 2)
