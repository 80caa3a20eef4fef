"""Check for `--no-regress`: is a result significantly worse than an earlier one? Noise must not fail the check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from gptctl.core.errors import DataError
from gptctl.evals.comparison.compare import metrics_in
from gptctl.evals.comparison.gates import GateResult
from gptctl.evals.metrics import lower_is_better
from gptctl.evals.scoring.report import Report
from gptctl.evals.stats.intervals import Z
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.predictions import ANY_TABLE, Rows, read_predictions

SHARES_OF_CORRECT = ("accuracy", "subset_accuracy", "exact_match")  # tested by McNemar


def check_rows(comparison: Report, alpha: float) -> list[GateResult]:
    """Check a comparison with earlier predictions of the same rows.

    The p-value is McNemar's for shares of correct rows, else the bootstrap's.
    """
    results = []
    for metric in metrics_in(comparison):
        found = comparison[metric]
        p = comparison["mcnemar"]["p"] if metric in SHARES_OF_CORRECT and "mcnemar" in comparison else found["p"]
        results.append(check_metric(metric, found["value"], found["other"], p, alpha))
    return results


def check_reports(now: Report, before: Report, metrics: Sequence[str], alpha: float) -> list[GateResult]:
    """Check two reports alone. Without the rows the samples count as independent, which detects less.

    A 95 % interval is 2 * 1.96 standard errors wide. z is the difference divided by both errors together; p is
    two-sided. Raises DataError (3) if the earlier report has none of the metrics with an interval.
    """
    shared = [name for name in metrics if standard_error(before, name) is not None]
    shared = [name for name in shared if standard_error(now, name) is not None]
    if not shared:
        raise DataError(
            f"the earlier result has no interval for {', '.join(metrics)}",
            "name a file that gptctl eval --json printed",
        )
    results = []
    for name in shared:
        error = math.hypot(standard_error(before, name) or 0.0, standard_error(now, name) or 0.0)
        gap = abs(now[name] - before[name])
        p = math.erfc(gap / error / math.sqrt(2)) if error else float(gap == 0)
        results.append(check_metric(name, now[name], before[name], p, alpha))
    return results


def standard_error(report: Report, metric: str) -> float | None:
    """Return a metric's standard error, computed from its interval; None if it has none."""
    bounds = (report.get("intervals") or {}).get(metric)
    if not isinstance(report.get(metric), int | float) or not isinstance(bounds, list) or len(bounds) != 2:
        return None
    return float(bounds[1] - bounds[0]) / (2 * Z)


def check_metric(metric: str, value: float | None, before: float | None, p: float | None, alpha: float) -> GateResult:
    """Fail a metric that is worse than before with p < alpha."""
    name = f"{metric} has not become worse"
    if value is None or before is None or p is None:
        return GateResult(name, value is not None or before is None, f"{metric} was {before}, is {value}")
    worse = value > before if lower_is_better(metric) else value < before
    if worse and p < alpha:
        message = f"{metric} {value:.4f} is worse than {before:.4f} before (p {p:.3g} < {alpha:g})"
        return GateResult(name, False, message)
    return GateResult(name, True, f"{metric} {value:.4f}, before {before:.4f}, p {p:.3g}")


def read_earlier(path: str | None, reading: ReadOptions = ANY_TABLE) -> Report | Rows | None:
    """Read what --no-regress names: a report in JSON, or predictions. Raises UsageError (2) or DataError (3)."""
    if path is None:
        return None
    if Path(path).suffix != ".json" or not Path(path).is_file():
        return read_predictions(path, reading).rows
    try:
        return report_in(orjson.loads(Path(path).read_bytes()))
    except orjson.JSONDecodeError as error:
        hint = "name what gptctl eval --json printed, or OUT/metrics.json"
        raise DataError(f"{path} is not JSON", hint) from error


def report_in(document: Any) -> Report:
    """Return the report in what --json printed, or in metrics.json. Raises DataError (3) for anything else."""
    report = document.get("metrics", document) if isinstance(document, dict) else None
    if not isinstance(report, dict) or "n" not in report:
        hint = "name what gptctl eval --json printed, or OUT/metrics.json"
        raise DataError("not a result of gptctl eval", hint)
    return report
