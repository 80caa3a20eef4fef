"""Bars that a result must reach, for `--fail-under f1=0.8`: a score below its bar ends the command with exit code 7."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gptctl.core.config import flatten
from gptctl.core.errors import GateError, UsageError
from gptctl.core.plugins import unknown
from gptctl.evals.scoring import scorer

Side: TypeAlias = Literal["under", "over"]

ROUNDING = 1e-12  # a mean of 0.8, 0.8 and 0.8 must reach 0.8


@dataclass(frozen=True)
class Gate:
    """A metric's bar: the value may not be `side` it."""

    metric: str
    bar: float
    side: Side = "under"


@dataclass(frozen=True)
class Check:
    """How one gate was passed, or not, in words."""

    name: str
    passed: bool
    message: str


def parse(text: str, side: Side = "under") -> Gate:
    """Read "f1=0.8" as a bar. Raises UsageError for anything else, and for a bar on a metric's wrong side."""
    metric, equals, bar = text.rpartition("=")
    try:
        gate = Gate(metric.strip(), float(bar), side)
    except ValueError:
        gate = Gate("", math.nan)
    if not equals or not gate.metric or not math.isfinite(gate.bar):
        raise UsageError(f"'{text}' is not a bar for a metric", f"write it like {spell(side)}=f1=0.8")
    if scorer.lower_is_better(gate.metric) != (side == "over"):
        good, other = ("low", "over") if side == "under" else ("high", "under")
        raise UsageError(
            f"{gate.metric} is good where it is {good}: a bar {side} which it fails makes no sense",
            f"write {spell('over' if other == 'over' else 'under')}={gate.metric}={gate.bar:g}",
        )
    return gate


def spell(side: Side) -> str:
    """Say how a bar is set on the command line."""
    return "--fail-under" if side == "under" else "--set fail_over"


def check(metrics: Mapping[str, Any], gates: Iterable[Gate]) -> list[Check]:
    """Hold a result against its bars; a metric without a value misses every bar.

    Of the result's entries the numbers can have bars, those of its tables by dotted names: per_class.spam.recall,
    baselines.nb.lift.f1. Raises UsageError for a name that is not among them.
    """
    numbers = {name: value for name, value in flatten(metrics).items() if value is None or type(value) in (int, float)}
    return [judge(gate, numbers) for gate in gates]


def judge(gate: Gate, numbers: Mapping[str, float | None]) -> Check:
    """Hold one number against its bar."""
    if gate.metric not in numbers:
        raise unknown("metric of this result", gate.metric, sorted(name for name in numbers if "." not in name))
    value = numbers[gate.metric]
    name = f"{gate.metric} {'>=' if gate.side == 'under' else '<='} {gate.bar:.10g}"
    if value is None:
        return Check(name, False, f"{gate.metric} has no value, {gate.bar:.10g} was asked for")
    gap = value - gate.bar if gate.side == "under" else gate.bar - value
    if gap >= -ROUNDING:
        return Check(name, True, f"{gate.metric} is {value:.10g}")
    sign = "<" if gate.side == "under" else ">"
    return Check(name, False, f"{gate.metric} {beyond(value, gate)} {sign} {gate.bar:.10g}")


def beyond(value: float, gate: Gate) -> str:
    """Round to 4 digits, or to as many as show on which side of the bar the value is."""
    for digits in range(4, 16):
        text = f"{value:.{digits}f}"
        if (float(text) < gate.bar) if gate.side == "under" else (float(text) > gate.bar):
            return text
    return repr(value)


def failure(checks: Iterable[Check]) -> GateError | None:
    """Return the error that names every bar that was missed, if one was."""
    missed = "; ".join(item.message for item in checks if not item.passed)
    return GateError(missed, "the result was written; lower the bar or improve the model") if missed else None
