"""The plan of `gptctl pretrain`: made from its options, its data and this machine, or read from a run folder."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path

from gptctl.core import atomic
from gptctl.core.config import fingerprint
from gptctl.core.context import Context
from gptctl.core.errors import ConflictError, DataError, UsageError
from gptctl.core.formatting import format_duration
from gptctl.core.run_folder import Run
from gptctl.core.run_record import MANIFEST, read_record
from gptctl.train.planning.compute_optimal import Candidate
from gptctl.train.planning.estimate import Layout, estimate
from gptctl.train.planning.gpu_specs import Accelerator
from gptctl.train.planning.plan_training import Measure, PlanRequest, batch_tokens, plan_training
from gptctl.train.planning.reading_plan import steps_for_targets
from gptctl.train.planning.time_budget import PLAN_FILE, minutes_used, read_plan, recorded_totals
from gptctl.train.planning.training_plan import TrainingPlan
from gptctl.train.tasks.pretrain_options import PretrainOptions
from gptctl.train.tasks.token_sources import TokenSources

DEFAULT_VOCABULARY = 8192  # of a plan without TOKENS
DRY_RUN_SECONDS = 3.0  # for measuring without a time budget


def is_planned(config: PretrainOptions) -> bool:
    """Return whether the run follows a plan, and not only a preset."""
    return bool(config.chooses_model or config.max_minutes or config.follow_plan)


def make_plan(config: PretrainOptions, data: TokenSources | None, measure: Measure, used: float = 0.0) -> TrainingPlan:
    """Return the plan for a command, of whose minutes `used` seconds have passed."""
    vocab_size, end_of_text = (data.vocab_size, data.tokenizer.end_of_text_id) if data else (None, None)
    fixed = None
    if not config.chooses_model:
        recipe = config.effective_recipe()
        fixed = Candidate(config.model_config_for(vocab_size, end_of_text), recipe)
        if not config.minutes:
            if config.train_tokens:
                wanted = int(config.train_tokens)
                steps = -(-wanted // (recipe.batch_size * recipe.seq_len))
                steps = steps_for_targets(data, config, recipe, wanted) if data else steps
                recipe = recipe.model_copy(update={"steps": steps})
            unique = data.count("train") if data else 0
            return TrainingPlan(fixed.model, recipe, eval_every=config.eval_every, unique_tokens=unique)
    given_vocabulary = config.model.vocab_size if config.is_given("model.vocab_size") else DEFAULT_VOCABULARY
    request = PlanRequest(
        vocab_size=vocab_size or given_vocabulary,
        unique_tokens=data.count("train") if data else 0,
        val_tokens=val_tokens(data),
        minutes=config.minutes,
        size=int(config.size or 0),
        train_tokens=int(config.train_tokens or 0),
        steps=config.steps_given,
        processes=config.world_size(),
        preset=fixed,
        keeps_warmup=config.chooses_model or config.is_own("training.warmup_steps"),
        eval_every=config.eval_every if config.is_given("eval_every") else None,
        eval_batches=config.eval_batches * (len(data.folders) if data else 1),
        adapt=config.with_given_keys,
    )
    plan = plan_training(request, measure, used)
    given = {"vocab_size": vocab_size, "end_of_text": end_of_text}
    update = {name: value for name, value in given.items() if value is not None}
    return replace(plan, model=plan.model.model_copy(update=update))


def val_tokens(data: TokenSources | None) -> int:
    """Return the tokens that an evaluation of the whole val split predicts."""
    return max(0, data.count("val") - 1) if data else 0


def evaluated_tokens(config: PretrainOptions, data: TokenSources | None, candidate: Candidate) -> int:
    """Return the tokens that an evaluation reads."""
    asked = config.eval_batches * batch_tokens(candidate) * (len(data.folders) if data else 1)
    return min(val_tokens(data), asked or val_tokens(data))


def tell_evaluations(config: PretrainOptions, data: TokenSources, plan: TrainingPlan, context: Context) -> None:
    """Say so if evaluations, whose tokens take a third of the time of others, take more than a third of a run."""
    evaluated = plan.evaluations * evaluated_tokens(config, data, Candidate(plan.model, plan.recipe)) / 3
    if not plan.minutes and evaluated > plan.tokens / 2:
        context.info(
            f"evaluations will take about {evaluated / (evaluated + plan.tokens):.0%} of the time: "
            f"--set eval_batches=8 makes them short{', and a larger eval_every fewer' if plan.evaluations > 1 else ''}"
        )


def measure_here(config: PretrainOptions) -> Measure:
    """Return a function that measures this machine."""
    from gptctl.train.planning.measure_machine import Machine, measure_speed

    processes = config.world_size()
    machine = Machine(
        device=config.device_name(),
        processes=processes,
        local_processes=processes // config.nodes,
        precision=config.precision,
        compile=config.compile,
        micro_batch_size=config.micro_batch_size,
    )
    return lambda candidate, seconds: measure_speed(candidate, machine, seconds)


def assume(accelerator: Accelerator, processes: int) -> Measure:
    """Return a function that computes the speed of so many GPUs from their data sheet."""

    def speed(candidate: Candidate, seconds: float) -> float:
        found = estimate(candidate.model, candidate.recipe, Layout(bf16=True), 0, accelerator)
        return processes * float(found["tokens_per_second"])

    return speed


def check_finished(config: PretrainOptions, out: Path, force: bool) -> None:
    """Raise ConflictError (5) for more minutes for a finished run: its learning rate has fallen already."""
    record = read_record(out)
    before = record.get("settings", {}).get("max_minutes")
    if force or not (out / MANIFEST).exists() or before is None or before == config.max_minutes:
        return
    minutes = read_plan(out).get("minutes")
    spent = format_duration(60 * minutes) if minutes else "steps"
    raise ConflictError(
        f"{out} has trained for its {spent}, and its learning rate has fallen to its final value",
        f"train it further: gptctl finetune {shlex.quote(str(out))} TEXTS -o more --task lm; or train a new run with "
        "another -o, or use --force to start afresh",
    )


def prepare_plan(config: PretrainOptions, data: TokenSources, run: Run, context: Context, began: float) -> TrainingPlan:
    """Return the plan of a run folder, or make and record one. The command began at `began` on `time.monotonic`."""
    if not is_planned(config):
        fixed = make_plan(config, data, measure_here(config))
        tell_evaluations(config, data, fixed, context)
        return fixed
    plan = read_recorded(config, run.path)
    totals: list[tuple[int, int]] = []
    if plan is None and config.follow_plan:
        plan, totals = read_other(config.follow_plan, data)
        check_followed(config, plan)
    if plan is None:
        used = time.monotonic() - began + 60 * minutes_used(run.path)
        plan = make_plan(config, data, measure_here(config), used)
    else:
        totals = totals or recorded_totals(read_plan(run.path))
        context.info("plan: as recorded in " + (str(run.path / PLAN_FILE)))
    written = plan.to_json() | {"totals": totals}
    atomic.write_json(run.path / PLAN_FILE, written)
    record_plan(run)
    run.save()
    if not totals:
        for line in plan.reasons:
            context.info(line)
    tell_evaluations(config, data, plan, context)
    return plan


def read_recorded(config: PretrainOptions, folder: Path) -> TrainingPlan | None:
    """Return the recorded plan of a run, with the minutes, steps or tokens that the command asks for now."""
    found = read_plan(folder)
    if not found:
        return None
    plan = TrainingPlan.from_json(found, str(folder / PLAN_FILE))
    if config.follow_plan:
        return plan
    if plan.minutes:
        return replace(plan, minutes=config.minutes, max_steps=config.steps_given or 0)
    steps = config.steps_given
    if config.train_tokens:
        steps = -(-int(config.train_tokens) // (plan.recipe.batch_size * plan.recipe.seq_len))
    return plan if steps is None else replace(plan, recipe=plan.recipe.model_copy(update={"steps": steps}))


def read_other(name: str, data: TokenSources) -> tuple[TrainingPlan, list[tuple[int, int]]]:
    """Return the plan in a file, and its totals.

    Raises UsageError (2) if there is none, DataError (3) if it is for the tokens of another tokenizer.
    """
    path = Path(name)
    found = read_plan(path.parent) if path.name == PLAN_FILE else {}
    if not found:
        raise UsageError(f"no plan: {name}", f"pass RUN/{PLAN_FILE} of a run with a plan")
    plan = TrainingPlan.from_json(found, name)
    if (plan.model.vocab_size, plan.model.end_of_text) != (data.vocab_size, data.tokenizer.end_of_text_id):
        raise DataError(
            f"{name} was made for another tokenizer, with {plan.model.vocab_size} tokens and not {data.vocab_size}",
            "pass the plan of a run on tokens of the same tokenizer",
        )
    return plan, recorded_totals(found)


def check_followed(config: PretrainOptions, plan: TrainingPlan) -> None:
    """Raise UsageError (2) if options or keys that were given contradict the plan that is followed."""
    planned = Candidate(plan.model, plan.recipe)
    if config.chooses_model:
        asked = config.with_given_keys(planned)
    else:
        from_plan = {name: getattr(plan.recipe, name) for name in ("steps", "warmup_steps")}
        model = config.model_config_for(plan.model.vocab_size, plan.model.end_of_text)
        asked = Candidate(model, config.effective_recipe().model_copy(update=from_plan))
    if asked != planned:
        raise UsageError("the plan of --follow-plan has another model or recipe", "leave out keys that differ from it")
    if config.max_minutes and config.max_minutes != plan.minutes:
        raise UsageError(
            f"--max-minutes {config.max_minutes:g}, but the plan of --follow-plan is for {plan.minutes:g}",
            "leave out --max-minutes",
        )


def plan_of(config: PretrainOptions, data: TokenSources, folder: Path) -> TrainingPlan:
    """Return the plan that the leading node has recorded, or that of the preset."""
    return read_recorded(config, folder) or make_plan(config, data, measure_here(config))


def record_plan(run: Run) -> None:
    """Copy a run's plan, with the totals that were planned on the way, into run.json."""
    if plan := read_plan(run.path):
        run.record["plan"] = plan


def other_plan(config: PretrainOptions) -> dict[str, str]:
    """Return the fingerprint of the plan that is followed, as an input of the run."""
    return {"plan": fingerprint(read_plan(Path(config.follow_plan).parent))} if config.follow_plan else {}


def plan_without_training(config: PretrainOptions, data: TokenSources | None) -> TrainingPlan:
    """Return the plan for --dry-run, with the speed of this machine, or of the GPUs that are assumed.

    Raises UsageError (2) if there is nothing to plan with.
    """
    if data is None and config.chooses_model and not (config.max_minutes or config.size or config.train_tokens):
        raise UsageError("nothing to plan", "give TOKENS, --preset, --size, --train-tokens or --max-minutes")
    accelerator = config.assumed_accelerator()
    measure = assume(accelerator, config.world_size()) if accelerator else measure_here(config)
    plan = make_plan(config, data, measure)
    if plan.tokens_per_second or accelerator:
        return plan
    candidate = Candidate(plan.model, plan.recipe)
    speed = measure(candidate, DRY_RUN_SECONDS)
    evaluated = evaluated_tokens(config, data, candidate)
    return replace(plan, tokens_per_second=round(speed, 1), evaluation_seconds=round(evaluated / (3 * speed), 3))
