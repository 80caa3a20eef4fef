"""The plan for a number of minutes, tokens, steps or parameters, with given speeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.model.config import ModelConfig, load_preset
from gptctl.train.planning.compute_optimal import Candidate, candidates, context_for
from gptctl.train.planning.plan_training import PlanRequest, interpolate, plan_training
from gptctl.train.planning.training_plan import TrainingPlan
from gptctl.train.recipe import Recipe
from gptctl.train.tasks.pretrain_options import PretrainOptions

VOCABULARY, TOKENS = 2048, 4_000_000
Measure = Callable[[Candidate, float], float]


def machine(flops: float) -> Measure:
    """A machine that computes so many operations per second, whatever the model."""
    return lambda candidate, seconds: flops / candidate.flops_per_token


def unused(candidate: Candidate, seconds: float) -> float:
    raise AssertionError("nothing is to be measured")


def request(**values: object) -> PlanRequest:
    return PlanRequest(**{"vocab_size": VOCABULARY, "unique_tokens": TOKENS, "val_tokens": 50_000, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("minutes", [2.0, 10.0, 120.0])
@pytest.mark.parametrize("flops", [5e10, 5e12, 3e14])
def test_a_plan_ends_on_time(minutes: float, flops: float) -> None:
    """Training, all evaluations, saving and the time that has passed already are the minutes."""
    used = 3.0
    plan = plan_training(request(minutes=minutes), machine(flops), used)
    evaluations = plan.recipe.steps // plan.eval_every if plan.eval_every else 1
    spent = used + plan.seconds + plan.saving_seconds + evaluations * plan.evaluation_seconds
    assert spent == pytest.approx(60 * minutes, rel=0.05)
    assert plan.recipe.warmup_steps <= 0.1 * plan.recipe.steps
    assert (plan.recipe.schedule, plan.recipe.min_lr_share) == ("wsd", 0.0)


def test_more_time_and_faster_machines_train_larger_models() -> None:
    sizes = [plan_training(request(minutes=1.0), machine(flops)).model.parameters() for flops in (5e9, 5e11, 5e13)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    short, long = (plan_training(request(minutes=minutes), machine(5e10)) for minutes in (1.0, 600.0))
    assert short.model.parameters() < long.model.parameters()


def test_a_start_that_took_all_the_time_leaves_a_small_model() -> None:
    plan = plan_training(request(minutes=0.02), machine(5e8), used=100.0)
    assert plan.model.layers <= 3  # of up to 24
    assert plan.recipe.steps == 1


def test_at_most_four_models_are_measured() -> None:
    asked: list[Candidate] = []

    def measure(candidate: Candidate, seconds: float) -> float:
        asked.append(candidate)
        assert 0 < seconds <= 0.05 * 60 * 10
        return 1e11 / candidate.flops_per_token

    plan = plan_training(request(minutes=10.0), measure)
    assert 1 < len(asked) == len(plan.measured) <= 4
    assert f"{plan.model.layers} layers of width {plan.model.hidden_size}" in plan.measured


@pytest.mark.parametrize(("flops", "context"), [(1e10, 512), (1e14, 1024), (3e16, 2048)])
def test_the_context_grows_with_the_tokens_that_the_time_allows(flops: float, context: int) -> None:
    plan = plan_training(request(minutes=10.0), machine(flops))
    assert plan.recipe.seq_len == plan.model.max_seq_len == context == context_for(plan.tokens)


def test_speeds_are_interpolated_by_flops() -> None:
    """On a machine whose speed follows from the FLOPs, those of all models follow from any of them."""
    grid = candidates(VOCABULARY, TOKENS)
    speed = machine(1e11)
    known = {grid[number]: speed(grid[number], 1.0) for number in (1, 4)}
    for candidate, rate in interpolate(grid, known).items():
        assert rate == pytest.approx(speed(candidate, 1.0), rel=1e-6)


def test_a_preset_keeps_its_model_and_ends_on_time() -> None:
    """The warm-up is at most a tenth of the steps, unless it was given; --steps is an upper bound."""
    tables = load_preset("gpt2")
    model = ModelConfig.model_validate(tables["model"])
    preset = Candidate(model, Recipe.model_validate(tables["training"] | {"batch_size": 4}))
    plan = plan_training(request(minutes=10.0, preset=preset), machine(1e13))
    assert (plan.model, plan.expected_loss) == (model, None)
    assert plan.seconds == pytest.approx(600, rel=0.2)
    assert plan.recipe.warmup_steps == plan.recipe.steps // 10
    assert (
        plan_training(request(minutes=10.0, preset=preset, keeps_warmup=True), machine(1e13)).recipe.warmup_steps
        == 2000
    )
    bounded = plan_training(request(minutes=10.0, preset=preset, steps=7), machine(1e13))
    assert (bounded.recipe.steps, bounded.max_steps) == (7, 7)


def test_tokens_steps_and_sizes_need_no_measuring() -> None:
    by_tokens = plan_training(request(train_tokens=10**7), unused)
    assert by_tokens.tokens == pytest.approx(10**7, rel=0.01)
    by_size = plan_training(request(size=2_000_000), unused)
    assert by_size.model.parameters() == pytest.approx(2_000_000, rel=0.6)
    both = plan_training(request(size=2_000_000, train_tokens=10**7), unused)
    assert (both.model.hidden_size, both.tokens) == (by_size.model.hidden_size, pytest.approx(10**7, rel=0.01))
    assert plan_training(request(steps=20), unused).recipe.steps == 20
    assert by_tokens.expected_loss is not None
    assert by_tokens.expected_loss < plan_training(request(train_tokens=5 * 10**6), unused).expected_loss  # type: ignore[operator]


def test_the_batch_is_for_all_processes_and_the_context_for_the_data() -> None:
    plan = plan_training(request(steps=5, processes=6), unused)
    assert plan.recipe.batch_size % 6 == 0
    short = plan_training(request(steps=5, unique_tokens=5000), unused)
    assert short.recipe.seq_len == short.model.max_seq_len == 64


def test_given_warmup_holds() -> None:
    config = PretrainOptions(training={"warmup_steps": 10}, steps=20)
    for values in ({"steps": 20}, {"train_tokens": 20_000}):
        plan = plan_training(request(adapt=config.with_given_keys, keeps_warmup=True, **values), unused)
        assert plan.recipe.warmup_steps == 10


def test_time_is_kept_for_the_batches_that_are_evaluated() -> None:
    whole, some = (
        plan_training(request(minutes=1.0, val_tokens=10**9, eval_batches=batches), machine(5e10)) for batches in (0, 2)
    )
    assert whole.evaluation_seconds > 5
    assert 0.5 < some.evaluation_seconds < 1
    assert (whole.eval_every, some.eval_every > 0) == (0, True)


def test_the_smallest_model_is_chosen_for_no_time_at_all() -> None:
    plan = plan_training(request(minutes=1e-9), machine(5e10))
    assert plan.model.hidden_size == candidates(VOCABULARY, TOKENS)[0].model.hidden_size


def test_measuring_takes_at_most_five_minutes() -> None:
    asked: list[float] = []

    def measure(candidate: Candidate, seconds: float) -> float:
        asked.append(seconds)
        return 1e11 / candidate.flops_per_token

    plan_training(request(minutes=1e6), measure)
    assert max(asked) <= 300


def test_the_loss_is_foretold_only_where_the_formula_holds() -> None:
    """Runs of few steps or little computation are said to be unknown. docs/scaling.md has what was measured."""
    for short in (request(steps=1), request(steps=99), request(train_tokens=100_000), request(minutes=0.1)):
        plan = plan_training(short, machine(5e10))
        assert plan.expected_loss is None
        assert any("the val loss of so short a run is not known" in line for line in plan.reasons), plan.reasons
        assert not any("expected val loss" in line for line in plan.reasons)
    long = plan_training(request(minutes=10.0), machine(5e10))
    assert long.expected_loss is not None and "expected val loss" in " ".join(long.reasons)


def test_short_runs_are_not_spent_on_evaluations() -> None:
    """Evaluations during a run take at most 2.5 % of its time, also where its steps do not follow from time."""
    short = plan_training(request(steps=100, val_tokens=10**6), unused)
    assert (short.eval_every, short.evaluations) == (0, 1)
    long = plan_training(request(train_tokens=10**8, val_tokens=10**5), unused)
    assert long.eval_every == long.recipe.steps // 11
    few = plan_training(request(train_tokens=10**7, val_tokens=2 * 10**5), unused)
    assert few.eval_every == few.recipe.steps // 4
    given = plan_training(request(steps=100, val_tokens=10**6, eval_every=10), unused)
    assert (given.eval_every, given.evaluations) == (10, 10)


def test_given_keys_hold() -> None:
    """A width, a depth, a context and a learning rate; heads and feed-forward follow the width."""
    config = PretrainOptions(seq_len=96, lr=0.5, model={"hidden_size": 96, "layers": 3}, max_minutes=1)
    plan = plan_training(request(minutes=1.0, adapt=config.with_given_keys), machine(1e11))
    model = plan.model
    assert (model.layers, model.hidden_size, model.intermediate_size, model.max_seq_len) == (3, 96, 384, 96)
    assert (plan.recipe.lr, plan.recipe.seq_len) == (0.5, 96)
    with pytest.raises(UsageError, match="no model fits"):
        plan_training(request(minutes=1.0, adapt=lambda candidate: None), machine(1e11))


def test_a_plan_is_what_it_was_written_as() -> None:
    plan = plan_training(request(minutes=1.0), machine(1e11))
    assert TrainingPlan.from_json(plan.to_json() | {"totals": [[3, 9]]}, "plan.json") == plan
    for damaged in ({}, plan.to_json() | {"model": {"layers": "many"}}):
        with pytest.raises(DataError, match=r"plan\.json is not a plan"):
            TrainingPlan.from_json(damaged, "plan.json")
