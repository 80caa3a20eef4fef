"""Is a result significantly worse than an earlier one? For `--no-regress`, which noise must not trip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from gptctl.core.errors import DataError
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.evals.stats.gates import Check
from gptctl.evals.stats.intervals import Z
from gptctl.io.input.predictions import read_predictions

SHARES_OF_RIGHT = ("accuracy", "subset_accuracy", "exact_match")


def from_rows(comparison: Values, metrics: Sequence[str], alpha: float) -> list[Check]:
    """Judge by the same rows answered before and now: McNemar's p for shares of right rows, else the bootstrap's."""
    checks = []
    for metric in metrics:
        found = comparison[metric]
        p = comparison["mcnemar"]["p"] if metric in SHARES_OF_RIGHT and "mcnemar" in comparison else found["p"]
        checks.append(judge(metric, found["value"], found["other"], p, alpha))
    return checks


def from_figures(now: Values, before: Values, metrics: Sequence[str], alpha: float) -> list[Check]:
    """Judge by two results alone. The rows being unknown, the samples count as independent, which sees less.

    A 95 % interval is 2 * 1.96 standard errors wide; z is the difference over both errors together, p two-sided.
    Raises DataError (3) where the earlier result has none of the metrics with an interval.
    """
    shared = [name for name in metrics if spread(before, name) is not None and spread(now, name) is not None]
    if not shared:
        raise DataError(
            f"the earlier result has no interval for {', '.join(metrics)}", "give what gptctl eval --json printed"
        )
    checks = []
    for name in shared:
        error = math.hypot(spread(before, name) or 0.0, spread(now, name) or 0.0)
        gap = abs(now[name] - before[name])
        p = math.erfc(gap / error / math.sqrt(2)) if error else float(gap == 0)
        checks.append(judge(name, now[name], before[name], p, alpha))
    return checks


def spread(result: Values, metric: str) -> float | None:
    """Return a metric's standard error from its interval, or None."""
    bounds = (result.get("intervals") or {}).get(metric)
    if not isinstance(result.get(metric), int | float) or not isinstance(bounds, list) or len(bounds) != 2:
        return None
    return float(bounds[1] - bounds[0]) / (2 * Z)


def judge(metric: str, value: float | None, before: float | None, p: float | None, alpha: float) -> Check:
    """Fail a metric that is worse than before with p < alpha."""
    name = f"{metric} has not become worse"
    if value is None or before is None or p is None:
        return Check(name, value is not None or before is None, f"{metric} was {before}, is {value}")
    worse = value > before if scorer.lower_is_better(metric) else value < before
    said = f"{metric} {value:.4f}, before {before:.4f}, p {p:.3g}"
    if worse and p < alpha:
        return Check(name, False, f"{metric} {value:.4f} is worse than {before:.4f} before (p {p:.3g} < {alpha:g})")
    return Check(name, True, said)


def earlier(path: str | None) -> Values | Rows | None:
    """Read what --no-regress names: a result in JSON, or predictions. Raises UsageError (2) or DataError (3)."""
    if path is None:
        return None
    if Path(path).suffix != ".json" or not Path(path).is_file():
        return read_predictions(path).rows
    try:
        return figures(orjson.loads(Path(path).read_bytes()))
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON", "give what gptctl eval --json printed, or OUT/metrics.json") from error


def figures(document: Any) -> Values:
    """Take the metrics out of what --json printed, or of metrics.json. Raises DataError (3) for anything else."""
    found = document.get("metrics", document) if isinstance(document, dict) else None
    if not isinstance(found, dict) or "n" not in found:
        raise DataError("not a result of gptctl eval", "give what gptctl eval --json printed, or OUT/metrics.json")
    return found
