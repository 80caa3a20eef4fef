"""The one training loop: pretraining and finetuning differ only in the job they hand in.

train(job)          picks the engine, which calls fit() once per rank
  fit(...)          resumes, then alternates updates, evaluations and checkpoints until a budget is used up
    update(...)     one step: micro-batches, one reduction over ranks, one division by the number of targets
    evaluate(...)   the whole val split
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.errors import DivergedError, StoppedError, UsageError
from gptctl.core.rundir import Run
from gptctl.core.seeds import derive
from gptctl.train import checkpoint, device
from gptctl.train.data import Samples
from gptctl.train.job import Model, TrainJob
from gptctl.train.schedule import lr_share

MIN_EVAL_BATCH = 32


class Engine(Protocol):
    """What the loop needs to know about other ranks: see engines/single.py and engines/ddp.py."""

    rank: int
    ranks: int
    device: torch.device

    def reduce_gradients(self, model: Model) -> None:
        """Add gradients up over all ranks."""

    def sum(self, values: Tensor) -> Tensor:
        """Add float64 values up over all ranks."""


@dataclass
class State:
    """What a resumed run must know besides tensors. Everything else follows from the job and the step."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0  # spent on updates
    minutes: float = 0.0  # since the very start, evaluations and checkpoints included
    threads: int = 1
    precision: str = "fp32"
    ranks: int = 1
    best: float | None = None
    best_step: int = 0
    stale_evaluations: int = 0
    loss_sum: float = 0.0  # since the last line of the log
    loss_count: int = 0
    train_loss: float = 0.0
    val: dict[str, float] = field(default_factory=dict)
    val_step: int = -1


@dataclass
class Fit:
    """Everything one rank holds while it trains."""

    job: TrainJob
    run: Run
    context: Context
    engine: Engine
    objective: ModuleType
    model: Model
    optimizers: Sequence[Optimizer]
    train_data: Samples
    val_data: Samples | None
    state: State
    total_steps: int
    saved_step: int
    started: float  # on the monotonic clock, as if the run had never been interrupted
    stopping: bool = False  # some rank got a signal; all ranks know
    out_of_time: bool = False
    logged_at: tuple[int, float] = (0, 0.0)  # tokens and seconds at the last line of the log

    @property
    def first(self) -> bool:
        """Tell whether this rank is the one that writes."""
        return self.engine.rank == 0


def train(job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Train until the steps, tokens, minutes or patience are used up, resuming from the newest good checkpoint.

    Gives steps, tokens, train_loss, val_loss (and the objective's other metrics as val_*), tokens_per_second,
    parameters, best_step. Raises DivergedError (6) at the first loss or gradient that is not finite, before it can
    touch a weight; StoppedError (130, 143) after a signal, with the state saved.
    """
    engine = plugins.load("gptctl.train.engines", "ddp" if job.ranks > 1 else "single")
    metrics: dict[str, Any] = engine.launch(fit, job, run, context)
    return metrics


def fit(job: TrainJob, run: Run, context: Context, engine: Engine) -> dict[str, Any]:
    """Train as one rank among `engine.ranks`."""
    fitting = begin(job, run, context, engine)
    state = fitting.state
    while True:
        last = state.step >= fitting.total_steps or fitting.out_of_time or impatient(fitting)
        if fitting.val_data is not None and state.val_step != state.step and (last or due(state.step, job.eval_every)):
            assess(fitting)
            last = last or impatient(fitting)
        stop_if_asked(fitting)
        if fitting.saved_step != state.step and (last or due(state.step, job.checkpoint_every)):
            save(fitting)
        if last:
            return result(fitting)
        update(fitting)


def due(step: int, every: int) -> bool:
    """Tell whether something that happens every so many steps happens now."""
    return every > 0 and step > 0 and step % every == 0


def begin(job: TrainJob, run: Run, context: Context, engine: Engine) -> Fit:
    """Build everything afresh, then lay the newest good checkpoint over it."""
    recipe = job.recipe
    if recipe.batch_size < engine.ranks:
        raise UsageError(
            f"a batch of {recipe.batch_size} sequences cannot be split over {engine.ranks} processes",
            "use a larger batch or fewer processes",
        )
    threads = device.threads(engine.ranks)
    device.prepare(threads)
    model = job.build().to(engine.device)
    if model.config.norm_position == "post" and not recipe.warmup_steps and engine.rank == 0:
        # Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", 3: gradients start large
        context.warn("norms after each part need a warm-up: set warmup_steps")
    optimizers = plugins.load("gptctl.train.optimizers", recipe.optimizer).build(model, recipe)
    precision = device.precision(engine.device, model.config.width) if job.precision == "auto" else job.precision
    state = State(threads=threads, precision=precision, ranks=engine.ranks)
    found = checkpoint.latest_valid(run.path, context.warn if engine.rank == 0 else None)
    if found is not None:
        state = State(**checkpoint.load(found, model, optimizers))
        if state.ranks != engine.ranks:
            state.threads, state.ranks = threads, engine.ranks
        torch.set_num_threads(state.threads)  # another count would add in another order
        if engine.rank == 0:
            run.event("resumed", step=state.step, checkpoint=found.name)
    total_steps = recipe.steps
    if job.max_tokens:
        total_steps = min(total_steps, math.ceil(job.max_tokens / (recipe.batch_size * recipe.seq_len)))
    return Fit(
        job=job,
        run=run,
        context=context,
        engine=engine,
        objective=plugins.load("gptctl.train.objectives", job.objective),
        model=model,
        optimizers=optimizers,
        train_data=job.train_data(),
        val_data=job.val_data() if job.val_data else None,
        state=state,
        total_steps=total_steps,
        saved_step=state.step if found is not None else -1,
        started=time.monotonic() - 60 * state.minutes,
        logged_at=(state.tokens, state.seconds),
    )


def update(fitting: Fit) -> None:
    """Do one step on the next batch.

    Gradients of summed losses are added up over micro-batches and ranks and divided once by the number of targets in
    all of them, so how a batch is cut cannot change the update (beyond rounding).
    """
    began = time.perf_counter()
    job, state, model = fitting.job, fitting.state, fitting.model
    loss, targets = accumulate(fitting)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients).item() / targets
    if not (math.isfinite(loss) and math.isfinite(norm)):
        diverge(fitting, f"loss {loss / targets}, gradient norm {norm}")
    clipped = min(1.0, job.recipe.clip / (norm + 1e-6)) if job.recipe.clip else 1.0
    torch._foreach_mul_(gradients, clipped / targets)
    share = lr_share(job.recipe, state.step, fitting.total_steps)
    for optimizer in fitting.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.samples += job.recipe.batch_size
    state.tokens += targets
    state.loss_sum += loss
    state.loss_count += targets
    state.seconds += time.perf_counter() - began
    if state.step % job.log_every == 0 or state.step == fitting.total_steps:
        log(fitting, share * job.recipe.lr, norm)


def accumulate(fitting: Fit) -> tuple[float, int]:
    """Add up gradients over the micro-batches and ranks of one step; give its summed loss and its number of targets."""
    job, state, engine = fitting.job, fitting.state, fitting.engine
    mine = rank_share(job.recipe.batch_size, engine.rank, engine.ranks)
    size = job.micro_batch_size or len(mine)
    sums = torch.zeros(4, dtype=torch.float64)  # loss, targets, a signal came, the time is up
    fitting.model.train()
    for micro, at in enumerate(range(mine.start, mine.stop, size)):
        batch = fitting.train_data.batch(state.samples + at, min(size, mine.stop - at)).to(engine.device)
        torch.manual_seed(derive(job.seed, "dropout", state.step, micro, engine.rank))
        with torch.autocast(engine.device.type, torch.bfloat16, enabled=state.precision == "bf16"):
            loss, count = fitting.objective.loss(fitting.model, batch, job.recipe)
        loss.backward()
        sums[0] += loss.item()
        sums[1] += count.item()
    engine.reduce_gradients(fitting.model)
    sums[2] = fitting.context.stop.signal_number is not None
    sums[3] = fitting.first and 0 < job.max_minutes <= minutes(fitting)
    total, targets, signals, late = engine.sum(sums).tolist()
    fitting.stopping, fitting.out_of_time = signals > 0, late > 0
    return total, max(1, int(targets))


def rank_share(batch_size: int, rank: int, ranks: int) -> range:
    """Give the samples of a step that are one rank's, as even as can be."""
    return range(batch_size * rank // ranks, batch_size * (rank + 1) // ranks)


def minutes(fitting: Fit) -> float:
    """Give the time since the very start of the run, without interruptions."""
    return (time.monotonic() - fitting.started) / 60


def diverge(fitting: Fit, what: str) -> NoReturn:
    """Raise DivergedError; every rank sees the same sums, so all of them do."""
    found = checkpoint.latest_valid(fitting.run.path)
    kept = f"; {found.name} is kept" if found else ""
    raise DivergedError(
        f"training diverged at step {fitting.state.step + 1}: {what}{kept}", "lower --lr, or warm up for longer"
    )


@torch.no_grad()
def evaluate(fitting: Fit, data: Samples) -> dict[str, float]:
    """Give the objective's metrics over a whole split, of which each rank reads its part; {} if a signal came."""
    job, engine = fitting.job, fitting.engine
    size = job.eval_batch_size or max(MIN_EVAL_BATCH, job.micro_batch_size or job.recipe.batch_size)
    tallied = fitting.objective.blank(fitting.model)
    fitting.model.eval()
    for batch in data.sequential(size, engine.rank, engine.ranks):
        if fitting.context.stop.signal_number is not None:
            break
        with torch.autocast(engine.device.type, torch.bfloat16, enabled=fitting.state.precision == "bf16"):
            tallied += fitting.objective.tally(fitting.model, batch.to(engine.device))
    stopped = torch.tensor([float(fitting.context.stop.signal_number is not None)], dtype=torch.float64)
    summed = engine.sum(torch.cat((tallied, stopped)))
    fitting.stopping = fitting.stopping or summed[-1].item() > 0
    if fitting.stopping:
        return {}
    metrics: dict[str, float] = fitting.objective.metrics(summed[:-1])
    return metrics


def assess(fitting: Fit) -> None:
    """Evaluate on the val split, note it, and keep the weights if they are the best so far."""
    assert fitting.val_data is not None
    state, job = fitting.state, fitting.job
    metrics = evaluate(fitting, fitting.val_data)
    if not metrics:
        return
    if not math.isfinite(metrics["loss"]):
        diverge(fitting, f"val loss {metrics['loss']}")
    state.val, state.val_step = metrics, state.step
    value = metrics[job.select_on]
    lower_is_better = job.select_on == "loss"
    better = state.best is None or (value < state.best if lower_is_better else value > state.best)
    state.stale_evaluations = 0 if better else state.stale_evaluations + 1
    if better:
        state.best, state.best_step = value, state.step
    if fitting.first:
        fitting.run.event("eval", step=state.step, best=better, **{f"val_{name}": metrics[name] for name in metrics})
        if better:
            folder = fitting.run.path / "checkpoints"
            checkpoint.save_best(folder, fitting.model, asdict(state), job.tokenizer_json, job.about)


def impatient(fitting: Fit) -> bool:
    """Tell whether `patience` evaluations in a row brought nothing better."""
    return 0 < fitting.job.patience <= fitting.state.stale_evaluations


def log(fitting: Fit, lr: float, norm: float) -> None:
    """Add one line to events.jsonl and move the progress bar."""
    state = fitting.state
    state.train_loss = state.loss_sum / max(1, state.loss_count)
    state.loss_sum, state.loss_count = 0.0, 0
    tokens, seconds = fitting.logged_at
    speed = (state.tokens - tokens) / max(1e-9, state.seconds - seconds)
    fitting.logged_at = state.tokens, state.seconds
    if fitting.first:
        fitting.run.event(
            "step",
            step=state.step,
            loss=state.train_loss,
            lr=lr,
            tokens=state.tokens,
            tokens_per_second=round(speed, 1),
            grad_norm=norm,
        )
        fitting.context.progress(
            state.step,
            fitting.total_steps,
            "steps",
            f"loss {state.train_loss:.4f}, {speed:,.0f} {fitting.objective.UNIT}/s",
        )


def save(fitting: Fit) -> None:
    """Write a checkpoint and remove old ones."""
    fitting.state.minutes = minutes(fitting)
    fitting.saved_step = fitting.state.step
    if fitting.first:
        folder = fitting.run.path / "checkpoints"
        path = checkpoint.save(
            folder,
            fitting.state.step,
            fitting.model,
            fitting.optimizers,
            asdict(fitting.state),
            fitting.job.tokenizer_json,
            fitting.job.about,
        )
        fitting.run.event("checkpoint", step=fitting.state.step, path=path.name)
        checkpoint.prune(folder, max(1, fitting.job.keep_checkpoints))


def stop_if_asked(fitting: Fit) -> None:
    """After a signal, save and raise StoppedError."""
    if not fitting.stopping:
        return
    if fitting.saved_step != fitting.state.step:
        save(fitting)
    fitting.context.stop.check(f"training stopped after step {fitting.state.step}")
    raise StoppedError(f"training stopped after step {fitting.state.step}", "run the same command again to go on")


def result(fitting: Fit) -> dict[str, Any]:
    """Give the metrics of the finished run."""
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
    return (config.padded_vocab_size - config.vocab_size) * config.width * (1 if config.tie_embeddings else 2)
