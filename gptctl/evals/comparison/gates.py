"""Gates: thresholds such as `--fail-under f1=0.8`. A metric that misses its threshold ends the command with exit 7."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gptctl.core.config import flatten
from gptctl.core.errors import GateError, UsageError
from gptctl.core.plugins import unknown
from gptctl.evals.metrics import lower_is_better

Side: TypeAlias = Literal["under", "over"]

ROUNDING = 1e-12  # the mean of 0.8, 0.8 and 0.8 must reach a threshold of 0.8


@dataclass(frozen=True)
class Gate:
    """A threshold for a metric. The gate fails if the value is `fail` it."""

    metric: str
    threshold: float
    fail: Side = "under"


@dataclass(frozen=True)
class GateResult:
    """Whether a gate was passed, and a sentence about it."""

    name: str
    passed: bool
    message: str


def parse(text: str, fail: Side = "under") -> Gate:
    """Parse "f1=0.8". Raises UsageError for anything else, and for a threshold on a metric's wrong side."""
    metric, equals, threshold = text.rpartition("=")
    try:
        gate = Gate(metric.strip(), float(threshold), fail)
    except ValueError:
        gate = Gate("", math.nan)
    if not equals or not gate.metric or not math.isfinite(gate.threshold):
        raise UsageError(f"'{text}' is not a threshold for a metric", f"write it like {option_name(fail)}=f1=0.8")
    if lower_is_better(gate.metric) != (fail == "over"):
        better, other = ("lower", "over") if fail == "under" else ("higher", "under")
        raise UsageError(
            f"{gate.metric} is better when it is {better}, so a value {fail} the threshold is no failure",
            f"write {option_name('over' if other == 'over' else 'under')}={gate.metric}={gate.threshold:g}",
        )
    return gate


def option_name(fail: Side) -> str:
    """Return how such a threshold is set on the command line."""
    return "--fail-under" if fail == "under" else "--set fail_over"


def check_gates(metrics: Mapping[str, Any], gates: Iterable[Gate]) -> list[GateResult]:
    """Check a report against gates. A metric without a value misses every threshold.

    The numbers of the report can have thresholds, those in its tables by dotted names: per_class.spam.recall,
    baselines.nb.lift.f1. Raises UsageError for a name that is not among them.
    """
    numbers = {name: value for name, value in flatten(metrics).items() if value is None or type(value) in (int, float)}
    return [check_gate(gate, numbers) for gate in gates]


def check_gate(gate: Gate, numbers: Mapping[str, float | None]) -> GateResult:
    """Check one number."""
    if gate.metric not in numbers:
        raise unknown("metric of this result", gate.metric, suggested(gate.metric, numbers))
    value = numbers[gate.metric]
    name = f"{gate.metric} {'>=' if gate.fail == 'under' else '<='} {gate.threshold:.10g}"
    if value is None:
        return GateResult(name, False, f"{gate.metric} has no value, the threshold is {gate.threshold:.10g}")
    margin = value - gate.threshold if gate.fail == "under" else gate.threshold - value
    if margin >= -ROUNDING:
        return GateResult(name, True, f"{gate.metric} is {value:.10g}")
    sign = "<" if gate.fail == "under" else ">"
    return GateResult(name, False, f"{gate.metric} {rounded(value, gate)} {sign} {gate.threshold:.10g}")


def suggested(metric: str, numbers: Iterable[str]) -> list[str]:
    """List the names without a dot; for a metric with a dot, first the dotted names that end as it does."""
    end = metric.rpartition(".")[2]
    alike = [name for name in numbers if "." in metric and "." in name and name.rpartition(".")[2] == end]
    return [*sorted(alike), *sorted(name for name in numbers if "." not in name)]


def rounded(value: float, gate: Gate) -> str:
    """Round to 4 digits, or to as many as show on which side of the threshold the value is."""
    for digits in range(4, 16):
        text = f"{value:.{digits}f}"
        if (float(text) < gate.threshold) if gate.fail == "under" else (float(text) > gate.threshold):
            return text
    return repr(value)


def failure(results: Iterable[GateResult]) -> GateError | None:
    """Return the error that lists every gate that was missed; None if all were passed."""
    missed = "; ".join(result.message for result in results if not result.passed)
    return GateError(missed, "the result was written; lower the threshold or improve the model") if missed else None
