"""The minutes of a run, and the record of how many steps fit into them. Needs no torch.

The number of steps is planned from a measured speed, and planned again at fixed steps from the time that is left. Each
total is recorded in RUN/plan.json. A run that resumes, or that follows another run's plan, takes the recorded totals
instead of its clock: so equal plans give equal weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from gptctl.core import atomic
from gptctl.core.errors import DataError

PLAN_FILE = "plan.json"
REPLANS = 25  # times that the number of steps is planned again
PACE_WINDOW = 6  # re-plannings over which the pace is measured


@dataclass(frozen=True)
class TimeBudget:
    """The time of a run."""

    minutes: float
    began: float  # on `time.monotonic`, which nobody sets; a resumed run began later by its interruptions
    interval: int  # steps from one re-planning to the next
    saving_seconds: float = 0.0  # kept for writing the model at the end
    evaluation_seconds: float = 0.0  # kept for the last evaluation, until one was measured
    max_steps: int = 0  # 0 is no limit

    def seconds_left(self, now: float) -> float:
        """Return how long training may still take, the last evaluation not subtracted."""
        return 60 * self.minutes - self.saving_seconds - (now - self.began)


def replanning_interval(steps: int) -> int:
    """Return the steps between two re-plannings of a run that is planned to have so many steps."""
    return max(1, steps // REPLANS)


@dataclass
class Pace:
    """How many seconds a step takes, evaluations and checkpoints included."""

    clock: Callable[[], float]
    marks: list[tuple[int, float]] = field(default_factory=list)  # steps and when they ended

    def mark(self, step: int) -> None:
        """Note that a step has ended now."""
        self.marks = [*self.marks, (step, self.clock())][-PACE_WINDOW:]

    def total_steps(self, budget: TimeBudget, step: int, planned: int, evaluation_seconds: float) -> int:
        """Return the total of steps that fits, planned at a step; `planned` if nothing was measured yet.

        A run that is late still gets 4 % more steps, at least one, in which its learning rate falls; but no more than
        were planned before.
        """
        now = self.clock()
        first, began = self.marks[0] if self.marks else (step, now)
        if step <= first or now <= began:
            return planned
        left = budget.seconds_left(now) - evaluation_seconds
        least = max(1, min(step // REPLANS, planned - step))
        total = step + max(least, int(left * (step - first) / (now - began)))
        return min(total, max(budget.max_steps, step + 1)) if budget.max_steps else total


def read_plan(run: Path) -> dict[str, Any]:
    """Return the content of a run's plan.json, or an empty dictionary if there is none."""
    path = run / PLAN_FILE
    try:
        found = json.loads(path.read_bytes())
        recorded_totals(found)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error}", "use --force to start afresh") from error
    return dict(found)


def recorded_totals(plan: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the pairs of a step and the total that was planned there."""
    return [(int(step), int(total)) for step, total in plan.get("totals", [])]


def record_total(run: Path, step: int, total: int) -> None:
    """Add a total to a run's plan.json."""
    plan = read_plan(run)
    atomic.write_json(run / PLAN_FILE, plan | {"totals": [*recorded_totals(plan), (step, total)]})


def minutes_used(run: Path) -> float:
    """Return how long the earlier commands of a run took, from its events; the last command is the present one.

    The time between commands does not count. After a kill the last event tells when the command was still alive. Its
    `elapsed` holds whatever the clock was set to. Events of earlier versions have only the time of the clock.
    """
    path = run / "events.jsonl"
    commands: list[list[dict[str, Any]]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        if not (event := parse_event(line)):
            continue
        if event["event"] in ("start", "resume"):
            commands.append([])
        if commands:
            commands[-1].append(event)
    return sum(seconds_of(events) for events in commands[:-1]) / 60


def seconds_of(events: list[dict[str, Any]]) -> float:
    """Return how long a command took, from its events."""
    elapsed = events[-1].get("elapsed")
    if isinstance(elapsed, int | float):
        return max(0.0, elapsed)
    first, last = (datetime.fromisoformat(event["time"]) for event in (events[0], events[-1]))
    return max(0.0, (last - first).total_seconds())


def parse_event(line: str) -> dict[str, Any]:
    """Return the event in a line, or {} for a line that a crash cut short.

    The next command appends its first event to such a line. That event is returned.
    """
    for text in (line, line[max(0, line.rfind('{"time"')) :]):
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and "time" in event and "event" in event:
            return event
    return {}
