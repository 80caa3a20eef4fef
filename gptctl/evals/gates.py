"""Bars that a result must reach, for `--fail-under f1=0.8`: a score below its bar ends the command with exit code 7."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from gptctl.core.errors import UsageError
from gptctl.core.plugins import unknown

Gate: TypeAlias = tuple[str, float]

ROUNDING = 1e-12  # a mean of 0.8, 0.8 and 0.8 must reach 0.8


def parse(text: str) -> Gate:
    """Read "f1=0.8" as ("f1", 0.8). Raises UsageError for anything else."""
    metric, equals, bar = text.partition("=")
    try:
        gate = metric.strip(), float(bar)
    except ValueError:
        gate = "", math.nan
    if not equals or not gate[0] or not math.isfinite(gate[1]):
        raise UsageError(f"'{text}' is not a bar for a metric", "write it like --fail-under f1=0.8")
    return gate


def check(metrics: Mapping[str, Any], gates: Iterable[Gate]) -> list[str]:
    """List the bars that are missed, such as "f1 0.6794 < 0.68"; a metric without a value misses every bar.

    `metrics` is a report; of its entries only the numbers can have bars. Raises UsageError for a name that is not
    among them.
    """
    numbers = {name: value for name, value in metrics.items() if value is None or type(value) in (int, float)}
    misses = []
    for metric, bar in gates:
        if metric not in numbers:
            raise unknown("metric of this result", metric, sorted(numbers))
        value = numbers[metric]
        if value is None:
            misses.append(f"{metric} has no value, {bar:.10g} was asked for")
        elif value < bar - ROUNDING:
            misses.append(f"{metric} {_just_below(value, bar)} < {bar:.10g}")
    return misses


def _just_below(value: float, bar: float) -> str:
    """Round to 4 digits, or to as many as show that the value is below the bar."""
    return next((text for text in (f"{value:.{digits}f}" for digits in range(4, 16)) if float(text) < bar), repr(value))
