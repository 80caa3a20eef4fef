"""The choice of model, recipe and steps for a request: so many minutes, tokens or parameters. Needs no torch.

Speeds are measured by a function that the caller passes: so the choice can be tested, and other ways to measure used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gptctl.core.errors import UsageError
from gptctl.core.formatting import format_compact, format_duration, format_number
from gptctl.model.config import ModelConfig
from gptctl.train.planning import compute_optimal
from gptctl.train.planning.compute_optimal import Candidate, predicted_loss
from gptctl.train.planning.training_plan import TrainingPlan

MEASURED_MODELS = 4
MEASURED_SHARE = 0.05  # of the minutes that measuring may take
MEASURED_SECONDS = 300.0  # that measuring may take, however many minutes there are
UNLIMITED = 10**15  # tokens, where the data are not known
EVALUATION_SHARE = 0.025  # of the time that evaluations during the run may take
MAX_EVALUATIONS = 10
LEAST_SHARE = 0.25  # of the minutes that the model is chosen for, also if starting and measuring took longer
MAX_ENDING_SHARE = 0.15  # of the time that the last evaluation and saving may be planned to take
SAVING_SECONDS = 2.0  # for pictures and small files at the end
SAVED_BYTES_PER_SECOND = 2e8
WARMUP_SHARE = 0.1  # of the steps, the longest warm-up of a preset whose steps follow from time
MIN_CONTEXT = 32
# The shortest runs whose loss is known: those of less were 0.3 to 1.6 nats below what is expected (docs/scaling.md).
FITTED_FLOPS, FITTED_STEPS = 2.5e12, 100
NOTHING_LEARNED = 0.05  # nats below the loss of guessing, up to which a plan says so
CONTEXTS_IN_DATA = 64  # the context is short enough for the data to have this many sequences

Measure = Callable[[Candidate, float], float]  # tokens per second of a candidate, measured in about so many seconds
Adapt = Callable[[Candidate], Candidate | None]  # applies the keys that the user gave; None if they do not fit


@dataclass(frozen=True)
class PlanRequest:
    """What is asked for. 0 means that it is not given."""

    vocab_size: int
    unique_tokens: int = 0  # of the training split
    val_tokens: int = 0
    minutes: float = 0.0
    size: int = 0  # parameters
    train_tokens: int = 0
    steps: int | None = None  # beside minutes an upper bound
    processes: int = 1
    preset: Candidate | None = None  # the model and recipe, where they are not to be chosen
    keeps_warmup: bool = False  # the warm-up was given by the user, or is for the steps that are chosen
    eval_every: int | None = None  # where the user gave it
    eval_batches: int = 0  # of an evaluation, over all sources; 0 reads the whole val split
    adapt: Adapt = lambda candidate: candidate


def plan_training(request: PlanRequest, measure: Measure, used: float = 0.0) -> TrainingPlan:
    """Return the plan for a request. `used` seconds of its minutes have passed already.

    Where the steps follow from the minutes, the speeds of up to 4 models are measured, in at most 5 % of the minutes
    and 5 minutes; those of the others are interpolated by their FLOPs.

    Raises UsageError (2) if no model fits the keys given.
    """
    return plan_by_time(request, measure, used) if request.minutes else plan_by_amount(request)


def plan_by_amount(request: PlanRequest) -> TrainingPlan:
    """Return the plan for a number of tokens, steps or parameters. Nothing is measured."""
    size, tokens = request.size, request.train_tokens

    def choose(wanted: int) -> Candidate:
        if request.preset:
            return prepared(request, request.preset)
        if size:
            return prepared(request, compute_optimal.for_size(size, request.vocab_size, wanted))
        return prepared(request, compute_optimal.for_tokens(wanted, request.vocab_size))

    if request.steps is not None:
        found = choose(1)
        found = choose(max(1, request.steps * batch_tokens(found)))  # the batch depends on the tokens
        found = with_steps(found, request.steps, request.keeps_warmup)
        why = f"{request.steps:,} step{'s were' if request.steps != 1 else ' was'} asked for"
    elif tokens:
        found = choose(tokens)
        found = with_steps(found, math.ceil(tokens / batch_tokens(found)), request.keeps_warmup)
        why = f"{format_compact(tokens)} tokens were asked for"
    else:
        found = choose(0)
        why = f"{format_compact(size)} parameters were asked for, and this is the best number of tokens for them"
    plan = TrainingPlan(found.model, found.recipe, unique_tokens=request.unique_tokens)
    plan = replace(
        plan,
        expected_loss=known_loss(request, found, plan.tokens),
        eval_every=evaluation_interval(
            request, found.recipe.steps, affordable_evaluations(request, found, plan.tokens)
        ),
    )
    return replace(plan, reasons=(size_line(found.model), amount_line(plan, why), recipe_line(plan)))


def plan_by_time(request: PlanRequest, measure: Measure, used: float) -> TrainingPlan:
    """Return the plan for a number of minutes."""
    began, whole = time.monotonic(), 60 * request.minutes
    seconds = max(whole - used, LEAST_SHARE * whole)
    grid, speeds = measure_grid(request, measure, seconds, min(MEASURED_SHARE * whole, MEASURED_SECONDS))
    seconds = max(seconds - (time.monotonic() - began), LEAST_SHARE * whole)
    if request.preset or request.size:
        best = grid[0]
        speed = speeds[best]
        if not request.preset:
            model = best.model
            best = adapted(request, Candidate(model, compute_optimal.recipe_for(model, int(speed * seconds))))
    else:
        chosen, speed = choose_best(request, interpolate(grid, speeds), seconds)
        best = adapted(request, chosen)
    evaluated = evaluated_tokens(request, best)
    evaluating = evaluated / (3 * speed) + 0.5 if evaluated else 0.0
    saving = SAVING_SECONDS + 24 * best.model.parameters() / SAVED_BYTES_PER_SECOND
    shrink = min(1.0, MAX_ENDING_SHARE * whole / (evaluating + saving))
    evaluating, saving = evaluating * shrink, saving * shrink
    evaluations = min(MAX_EVALUATIONS, int(EVALUATION_SHARE * whole / evaluating)) if evaluating else 0
    training = seconds - saving - evaluating * (evaluations + 1)
    steps = max(1, int(training * speed / batch_tokens(best)))
    best = with_steps(best, steps if request.steps is None else min(steps, request.steps), request.keeps_warmup)
    plan = TrainingPlan(
        model=best.model,
        recipe=best.recipe,
        minutes=request.minutes,
        max_steps=request.steps or 0,
        eval_every=evaluation_interval(request, best.recipe.steps, evaluations),
        tokens_per_second=round(speed, 1),
        evaluation_seconds=round(evaluating, 3),
        saving_seconds=round(saving, 3),
        unique_tokens=request.unique_tokens,
        measured={describe(candidate.model): round(rate, 1) for candidate, rate in speeds.items()},
    )
    plan = replace(plan, expected_loss=None if request.preset else known_loss(request, best, plan.tokens))
    lines = (speed_line(plan, time.monotonic() - began), time_line(request, plan, grid, speeds), recipe_line(plan))
    return replace(plan, reasons=lines)


def candidates(request: PlanRequest, tokens: int) -> list[Candidate]:
    """Return the models to choose among, the cheapest first, with the user's keys.

    Raises UsageError (2) if the keys fit none.
    """
    if request.preset:
        return [prepared(request, request.preset)]
    if request.size:
        return [prepared(request, compute_optimal.for_size(request.size, request.vocab_size, tokens))]
    found: dict[ModelConfig, Candidate] = {}
    for candidate in compute_optimal.candidates(request.vocab_size, tokens):
        changed = request.adapt(in_data(request, candidate))
        if changed:
            found.setdefault(changed.model, changed)
    if not found:
        raise no_model_fits()
    return sorted((for_processes(request, one) for one in found.values()), key=lambda one: one.flops_per_token)


def prepared(request: PlanRequest, candidate: Candidate) -> Candidate:
    """Return a candidate with the user's keys, a context that the data fill, and a batch for all processes."""
    if request.preset:
        return candidate
    return adapted(request, in_data(request, candidate))


def adapted(request: PlanRequest, candidate: Candidate) -> Candidate:
    """Return a candidate with the user's keys. Raises UsageError (2) if they do not fit."""
    found = request.adapt(candidate)
    if found is None:
        raise no_model_fits()
    return for_processes(request, found)


def no_model_fits() -> UsageError:
    """Return the error for keys of model that no candidate can have."""
    return UsageError("no model fits the keys of model that were given", "give --preset, too")


def in_data(request: PlanRequest, candidate: Candidate) -> Candidate:
    """Shorten the context where the training split has few sequences of it."""
    context = candidate.recipe.seq_len
    while request.unique_tokens and context > MIN_CONTEXT and context * CONTEXTS_IN_DATA > request.unique_tokens:
        context //= 2
    if context == candidate.recipe.seq_len:
        return candidate
    batch = max(1, batch_tokens(candidate) // context)
    return Candidate(
        candidate.model.model_copy(update={"max_seq_len": context}),
        candidate.recipe.model_copy(update={"seq_len": context, "batch_size": batch}),
    )


def for_processes(request: PlanRequest, candidate: Candidate) -> Candidate:
    """Round the batch up to a multiple of the processes."""
    batch = -(-candidate.recipe.batch_size // request.processes) * request.processes
    return Candidate(candidate.model, candidate.recipe.model_copy(update={"batch_size": batch}))


def with_steps(candidate: Candidate, steps: int, keeps_warmup: bool = False) -> Candidate:
    """Return a candidate with a number of steps, and a warm-up that is at most a tenth of them if it is not kept."""
    warmup = candidate.recipe.warmup_steps
    warmup = warmup if keeps_warmup else min(warmup, int(WARMUP_SHARE * steps))
    return Candidate(candidate.model, candidate.recipe.model_copy(update={"steps": steps, "warmup_steps": warmup}))


def measure_grid(
    request: PlanRequest, measure: Measure, seconds: float, allowed: float
) -> tuple[list[Candidate], dict[Candidate, float]]:
    """Return the models to choose among, and the speeds of some, measured within about `allowed` seconds.

    More tokens want a longer context. Where the speed allows for so many tokens, the models are those of the longer
    context, and their speeds are measured again in what is left of the time.
    """
    began = time.monotonic()
    grid = candidates(request, tokens=0)
    speeds = measure_some(request, grid, measure, seconds, allowed)
    while not request.preset:
        _, speed = choose_best(request, interpolate(grid, speeds), seconds)
        longer = candidates(request, int(speed * seconds))
        if longer[0].recipe.seq_len <= grid[0].recipe.seq_len:
            break
        left = max(0.0, allowed - (time.monotonic() - began))
        grid, speeds = longer, measure_some(request, longer, measure, seconds, left)
    return grid, speeds


def measure_some(
    request: PlanRequest, grid: list[Candidate], measure: Measure, seconds: float, allowed: float
) -> dict[Candidate, float]:
    """Return the measured speeds of some candidates: the smallest, then those that seem best, until the best is known.

    Measuring ends after `allowed` seconds. A model is not measured if its steps are too slow for what is left of them.
    """
    began = time.monotonic()
    speeds = {grid[0]: measure(grid[0], allowed / 2)}
    while len(speeds) < min(MEASURED_MODELS, len(grid)):
        every = interpolate(grid, speeds)
        chosen = compute_optimal.choose(every, seconds, request.unique_tokens or UNLIMITED).model
        index = next(number for number, candidate in enumerate(grid) if candidate.model == chosen)
        if grid[index] in speeds:
            index += 1  # a larger one may be faster than its FLOPs tell
        left = allowed - (time.monotonic() - began)
        if index == len(grid) or grid[index] in speeds or 3 * batch_tokens(grid[index]) / every[grid[index]] > left:
            break
        speeds[grid[index]] = measure(grid[index], left)
    return speeds


def choose_best(request: PlanRequest, speeds: Mapping[Candidate, float], seconds: float) -> tuple[Candidate, float]:
    """Return the candidate with the lowest expected loss, with a recipe for these seconds, and its speed."""
    chosen = compute_optimal.choose(speeds, seconds, request.unique_tokens or UNLIMITED)
    return chosen, next(rate for candidate, rate in speeds.items() if candidate.model == chosen.model)


def interpolate(grid: list[Candidate], speeds: Mapping[Candidate, float]) -> dict[Candidate, float]:
    """Return the speed of every candidate: as measured, or by its FLOPs from the measured ones next to it.

    Between two measured models the logarithm of the speed is linear in that of the FLOPs. Beyond them the FLOPs per
    second stay the same.
    """
    known = sorted((math.log(one.flops_per_token), math.log(rate)) for one, rate in speeds.items())
    found = {}
    for candidate in grid:
        flops = math.log(candidate.flops_per_token)
        below, above = ([point for point in known if (point[0] <= flops) == side] for side in (True, False))
        if below and above:
            (x0, y0), (x1, y1) = below[-1], above[0]
            logarithm = y0 + (y1 - y0) * (flops - x0) / (x1 - x0)
        else:
            x0, y0 = below[-1] if below else above[0]
            logarithm = y0 - (flops - x0)
        found[candidate] = speeds.get(candidate, math.exp(logarithm))
    return found


def evaluation_interval(request: PlanRequest, steps: int, evaluations: int) -> int:
    """Return the steps between evaluations, of which there are so many before the last one."""
    if request.eval_every is not None:
        return request.eval_every
    return steps // (evaluations + 1) if evaluations else 0


def affordable_evaluations(request: PlanRequest, candidate: Candidate, tokens: int) -> int:
    """Return how many evaluations during a run on so many tokens take a small share of its time.

    A token of an evaluation takes a third of the time of one that is trained on.
    """
    evaluated = evaluated_tokens(request, candidate)
    return min(MAX_EVALUATIONS, int(EVALUATION_SHARE * 3 * tokens / evaluated)) if evaluated else MAX_EVALUATIONS


def evaluated_tokens(request: PlanRequest, candidate: Candidate) -> int:
    """Return the tokens that an evaluation reads."""
    return min(request.val_tokens, request.eval_batches * batch_tokens(candidate) or request.val_tokens)


def batch_tokens(candidate: Candidate) -> int:
    """Return the tokens of a step."""
    return candidate.recipe.batch_size * candidate.recipe.seq_len


def expected_loss(request: PlanRequest, candidate: Candidate, tokens: int) -> float:
    """Return the expected val loss, at most that of a model that has learned nothing."""
    loss = predicted_loss(candidate.parameters, tokens, request.unique_tokens or UNLIMITED)
    return round(min(loss, math.log(request.vocab_size)), 3)


def known_loss(request: PlanRequest, candidate: Candidate, tokens: int) -> float | None:
    """Return the expected val loss, or None for a run that is shorter than those that the formula describes."""
    is_long = tokens >= FITTED_STEPS * batch_tokens(candidate) and candidate.flops_per_token * tokens >= FITTED_FLOPS
    return expected_loss(request, candidate, tokens) if is_long else None


def describe(model: ModelConfig) -> str:
    """Name a model by its depth and width."""
    return f"{model.layers} layer{'s' * (model.layers != 1)} of width {model.hidden_size}"


def size_line(model: ModelConfig) -> str:
    """Say which model is trained."""
    return f"plan: {describe(model)}, {format_compact(model.parameters())} parameters"


def data_text(plan: TrainingPlan) -> str:
    """Say how many tokens and epochs a plan has."""
    epochs = f", {plan.epochs:.2g} epochs" if plan.epochs else ""
    return f"{format_compact(plan.tokens)} tokens{epochs}"


def loss_text(plan: TrainingPlan) -> str:
    """Say what a plan is expected to reach."""
    if plan.expected_loss is None:
        return "; the val loss of so short a run is not known"
    return f"; expected val loss {plan.expected_loss:.2f} (more or less by 1, depending on the text)"


def amount_line(plan: TrainingPlan, why: str) -> str:
    """Say why a run takes so long."""
    return f"plan: {data_text(plan)}, because {why}{loss_text(plan)}"


def speed_line(plan: TrainingPlan, measuring: float) -> str:
    """Say what was measured."""
    speed = f"{format_number(round(plan.tokens_per_second))} tokens/s"
    measured = f"{len(plan.measured)} model{'s' * (len(plan.measured) != 1)} measured in {format_duration(measuring)}"
    return f"{size_line(plan.model)}, at {speed} on this machine ({measured})"


def time_line(
    request: PlanRequest, plan: TrainingPlan, grid: list[Candidate], speeds: Mapping[Candidate, float]
) -> str:
    """Say what fits into the time, and what the next smaller and larger model are expected to reach."""
    text = f"plan: {format_duration(60 * plan.minutes)} are {data_text(plan)}"
    if request.preset:
        return text
    loss = expected_loss(request, Candidate(plan.model, plan.recipe), plan.tokens)
    if loss > math.log(request.vocab_size) - NOTHING_LEARNED:
        return f"{text}, after which it is hardly better than guessing: give it more minutes"
    text += loss_text(plan)
    if request.size or plan.expected_loss is None:
        return text
    every = interpolate(grid, speeds)
    index = next(number for number, one in enumerate(grid) if one.model.hidden_size == plan.model.hidden_size)
    others = [grid[number] for number in (index - 1, index + 1) if 0 <= number < len(grid)]
    losses = [expected_loss(request, one, int(every[one] * plan.seconds)) for one in others]
    rivals = [f"{loss:.2f} with {describe(one.model)}" for one, loss in zip(others, losses, strict=True)]
    return f"{text}, {' and '.join(rivals)}" if rivals else text


def recipe_line(plan: TrainingPlan) -> str:
    """Say how a model is trained."""
    recipe = plan.recipe
    shape = f"{recipe.steps:,} step{'s' * (recipe.steps != 1)} of {recipe.batch_size} x {recipe.seq_len} tokens"
    rates = f"learning rate {recipe.lr:.2g}" + (f", {recipe.matrix_lr:.2g} for matrices" * (recipe.optimizer == "muon"))
    ending = f", falling over the last {recipe.cooldown_share:.0%} of the run" * (recipe.schedule == "wsd")
    return f"plan: {shape}; {rates}{ending}"
