"""Runs that end on time: totals of steps that are planned again, recorded, and followed."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core import atomic
from gptctl.core.errors import DataError
from gptctl.train.job import TrainJob
from gptctl.train.planning.time_budget import (
    Pace,
    TimeBudget,
    minutes_used,
    read_plan,
    recorded_totals,
    replanning_interval,
)
from gptctl.train.recipe import Recipe
from gptctl.train.schedule import lr_factor, planned_lr_factor, total_at
from tests.train.jobs import assert_equal, events, make_job, run_in, weights


def simulate(seconds_per_step: Iterator[float], planned: int, minutes: float) -> tuple[float, list[tuple[int, int]]]:
    """Return when a run ends whose steps take so long, and its totals, with the clock of the simulation."""
    now = [0.0]
    budget = TimeBudget(minutes, began=0.0, interval=replanning_interval(planned))
    pace, totals, step = Pace(lambda: now[0]), [(0, planned)], 0
    while step < total_at(totals, step):
        now[0] += next(seconds_per_step)
        step += 1
        if step == 1:
            pace.mark(step)
        if step % budget.interval == 0 and step < total_at(totals, step):
            totals.append((step, pace.total_steps(budget, step, total_at(totals, step), 0.0)))
            pace.mark(step)
    return now[0], totals


@pytest.mark.parametrize("factor", [0.2, 0.9, 1.0, 1.3, 5.0])
def test_a_machine_that_is_slower_or_faster_ends_on_time(factor: float) -> None:
    """600 steps of 0.1 s are planned for a minute. The first step compiles for a second."""
    ended, totals = simulate(iter([1.0] + [0.1 * factor] * 10_000), 600, 1.0)
    assert ended == pytest.approx(60, rel=0.03)
    assert totals[-1][1] == pytest.approx(600 / factor, rel=0.05)


def test_a_machine_that_becomes_slower_ends_on_time() -> None:
    """From the middle on, a step takes twice as long."""
    ended, _ = simulate(iter([0.1] * 300 + [0.2] * 10_000), 600, 1.0)
    assert ended == pytest.approx(60, rel=0.03)


def test_a_run_that_is_late_ends_at_the_next_step() -> None:
    pace = Pace(iter([0.0, 100.0]).__next__)
    pace.mark(1)
    assert pace.total_steps(TimeBudget(1.0, 0.0, 5), 5, 500, 0.0) == 6
    pace = Pace(iter([0.0, 100.0]).__next__)
    pace.mark(1)
    assert pace.total_steps(TimeBudget(1.0, 0.0, 5), 100, 500, 0.0) == 104


def test_the_limit_of_steps_holds() -> None:
    pace = Pace(iter([0.0, 1.0]).__next__)
    pace.mark(0)
    assert pace.total_steps(TimeBudget(1.0, 0.0, 5, max_steps=20), 10, 20, 0.0) == 20


@given(
    st.sampled_from(["cosine", "linear", "wsd", "constant", "noam"]),
    st.lists(st.integers(1, 400), min_size=1, max_size=8),
    st.integers(0, 30),
)
def test_the_rate_never_rises_after_the_warm_up(schedule: str, left: list[int], warmup: int) -> None:
    """Whatever is planned again; and it ends where a run that was planned so from the start ends."""
    recipe = Recipe.model_validate({"schedule": schedule, "warmup_steps": warmup, "min_lr_share": 0.0})
    totals = [(0, warmup + left[0])]
    for more in left[1:]:
        step = max(warmup, totals[-1][0] + 3)
        if step >= totals[-1][1]:
            break
        totals.append((step, step + more))
    end = totals[-1][1]
    rates = [planned_lr_factor(recipe, totals, step) for step in range(end)]
    assert all(one >= two - 1e-12 for one, two in zip(rates[warmup:], rates[warmup + 1 :], strict=False))
    if len(totals) == 1:
        assert rates == [lr_factor(recipe, step, end) for step in range(end)]
    if schedule in ("linear", "wsd", "cosine"):
        assert planned_lr_factor(recipe, totals, end) == pytest.approx(0.0, abs=1e-9)


def timed_job(minutes: float = 100.0, **settings: Any) -> TrainJob:
    """A run of 30 steps with so much time that new totals are larger, unless the plan has recorded others."""
    return make_job(
        "test-modern", time_budget=TimeBudget(minutes, time.monotonic(), interval=3, max_steps=40), **settings
    )


@pytest.mark.slow
def test_equal_plans_give_equal_weights(tmp_path: Path) -> None:
    """The totals of a run are recorded; a run that finds them in its folder follows them, whatever its clock says."""
    run_in(tmp_path / "one", timed_job())
    totals = recorded_totals(read_plan(tmp_path / "one"))
    assert [step for step, _ in totals] == list(range(6, 40, 3))  # the warm-up takes 5 steps
    assert {total for _, total in totals} == {40}
    assert [event["steps"] for event in events(tmp_path / "one", "replan")] == [40] * len(totals)
    (tmp_path / "two").mkdir()
    atomic.write_json(tmp_path / "two" / "plan.json", {"totals": totals})
    run_in(tmp_path / "two", timed_job(minutes=0.0))
    assert events(tmp_path / "two", "replan") == []
    assert_equal(weights(tmp_path / "one", 40), weights(tmp_path / "two", 40))


def test_a_resumed_run_follows_its_plan(tmp_path: Path) -> None:
    """Stopped at step 20 by a cap, and resumed by a command whose clock would plan otherwise."""
    run_in(tmp_path / "whole", timed_job())
    run_in(tmp_path / "part", timed_job(checkpoint_every=10))
    for folder in sorted((tmp_path / "part" / "checkpoints").glob("step-*"))[1:]:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert run_in(tmp_path / "part", timed_job(minutes=0.0))["steps"] == 40
    assert events(tmp_path / "part", "resumed")[0]["step"] < 40
    assert_equal(weights(tmp_path / "whole", 40), weights(tmp_path / "part", 40))


def test_a_run_without_time_left_is_complete(tmp_path: Path) -> None:
    """The first re-planning finds no time: it ends a step later, with an evaluation and a checkpoint."""
    metrics = run_in(tmp_path, timed_job(minutes=1e-6))
    assert metrics["steps"] == 7
    assert "val_loss" in metrics
    assert weights(tmp_path, 7)


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_a_clock_that_jumps_neither_ends_nor_prolongs_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Each look at the system's clock finds it a day later or earlier. A run of 100 minutes gets all its steps, and
    one without time left ends at the next step."""
    clock, looks = time.time, itertools.count(1)
    monkeypatch.setattr(time, "time", lambda: clock() + jump * next(looks))
    assert run_in(tmp_path / "long", timed_job())["steps"] == 40
    assert run_in(tmp_path / "short", timed_job(minutes=1e-6))["steps"] == 7


@pytest.mark.parametrize("day", ["2023-12-31", "2024-01-02"])
def test_a_clock_that_jumped_before_a_kill(tmp_path: Path, day: str) -> None:
    """The events have the seconds since their command began, which count whatever the clock said."""
    lines = [("start", "2024-01-01", 0.5), ("step", day, 90.0), ("resume", "2024-01-01", 0.5)]
    (tmp_path / "events.jsonl").write_text(
        "".join(
            json.dumps({"time": f"{on}T10:00:00+00:00", "elapsed": elapsed, "event": kind}) + "\n"
            for kind, on, elapsed in lines
        )
    )
    assert minutes_used(tmp_path) == 1.5


def test_time_before_a_kill_counts(tmp_path: Path) -> None:
    """Two commands of 90 and 30 s, an hour apart, before the present one."""
    lines = [("start", "10:00:00"), ("step", "10:01:30"), ("resume", "11:00:00"), ("stopped", "11:00:30"),
             ("resume", "12:00:00")]  # fmt: skip
    (tmp_path / "events.jsonl").write_text(
        "".join(json.dumps({"time": f"2024-01-01T{at}+00:00", "event": kind}) + "\n" for kind, at in lines)
    )
    assert minutes_used(tmp_path) == 2.0
    assert minutes_used(tmp_path / "nowhere") == 0.0


def test_lines_that_a_crash_cut_short(tmp_path: Path) -> None:
    """The next command's first event is in the same line; the present command's last line may be short, too."""
    started, stopped, resumed, again = (
        json.dumps({"time": f"2024-01-01T{at}+00:00", "event": kind})
        for at, kind in (("10:00:00", "start"), ("10:03:00", "step"), ("11:00:00", "resume"), ("11:01:00", "step"))
    )
    (tmp_path / "events.jsonl").write_text(f"{started}\n{stopped}\n{stopped[:-9]}{resumed}\n{again[:-9]}")
    assert minutes_used(tmp_path) == 3.0


def test_a_damaged_plan_is_an_error(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"totals": [1]}'):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(DataError, match=r"plan\.json is damaged"):
            read_plan(tmp_path)
