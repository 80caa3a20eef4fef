"""Compare two systems on the same rows: is the difference larger than chance would explain?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gptctl.core.errors import DataError
from gptctl.evals.array_types import BoolArray, FloatArray
from gptctl.evals.prediction_types import labels
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.metric_results import MetricGroup
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.report import Report
from gptctl.evals.stats.intervals import percentile_interval
from gptctl.evals.stats.mcnemar import mcnemar
from gptctl.evals.stats.paired import bootstrap_differences
from gptctl.io.input.predictions import Rows

SHOWN = 3  # ids listed in an error message
MAX_FLIPPED = 1000  # rows listed on each side; McNemar's test has the numbers of all


def align_rows(rows: Rows, other_rows: Rows, other_name: str) -> Rows:
    """Return the other system's rows in the order of `rows`. They are matched by id, and by split if all have one.

    Raises DataError (3) that lists the ids which only one system has, or an id whose labels differ.
    """
    by_split = all("split" in row for row in (*rows, *other_rows))

    def key(row: dict[str, Any]) -> tuple[str, str]:
        return str(row["split"]) if by_split else "", str(row["id"])

    others = {key(row): row for row in other_rows}
    known = {key(row) for row in rows}
    missing = [identity for identity in map(key, rows) if identity not in others]
    unknown = [identity for identity in others if identity not in known]
    for lacking, name in ((missing, other_name), (unknown, "this")):
        if lacking:
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            ids = ", ".join(f"'{identity}'" for _, identity in lacking[:SHOWN])
            raise DataError(f"{name} has no row with id {ids}{more}", "both systems must have predicted the same rows")
    aligned = [others[key(row)] for row in rows]
    for row, other in zip(rows, aligned, strict=True):
        if str(row.get("label")) != str(other.get("label")):
            raise DataError(
                f"id '{row['id']}' has the label '{row.get('label')}' here and '{other.get('label')}' in {other_name}",
                "both systems must be scored against the same labels",
            )
    return aligned


def compare_rows(rows: Rows, other_rows: Rows, prediction_type: str, options: ScoringOptions) -> Report:
    """Return the difference of every metric with its interval and p-value, and McNemar's test of the correct rows.

    `flipped` lists the rows that only one of the systems got right: "fixed" those of the first, "broken" those of the
    other. The rows must be aligned. A positive difference means that the first system has the higher value. Both
    systems are scored over the labels that either of them has, and are resampled together.
    """
    if prediction_type == "labels" and options.label_set is None:
        options = replace(options, labels=labels.seen_labels([*rows, *other_rows]))
    first = scorer.compute_metrics(rows, prediction_type, options)
    second = scorer.compute_metrics(other_rows, prediction_type, options)
    report: Report = {"n": first.n}
    if first.correct is not None and second.correct is not None:
        report["mcnemar"] = mcnemar_report(first.correct, second.correct)
        report["flipped"] = {
            "fixed": flipped_rows(rows, other_rows, first.correct & ~second.correct),
            "broken": flipped_rows(rows, other_rows, second.correct & ~first.correct),
        }
    for group in first.groups:
        # probabilities have metrics of their own, and only one of the systems may have probabilities
        for other in (other for other in second.groups if other.values.keys() & group.values.keys()):
            report |= group_differences(group, other, options.seed)
    return report


def metrics_in(comparison: Report) -> list[str]:
    """Return the names of the metrics that were compared."""
    return [name for name, found in comparison.items() if isinstance(found, dict) and "difference" in found]


def flipped_rows(rows: Rows, other_rows: Rows, chosen: BoolArray) -> Rows:
    """Return the id, the label and both predictions of the first of the chosen rows."""
    return [
        {"id": rows[row]["id"], "label": rows[row].get("label"), "pred": rows[row].get("pred"),
         "other": other_rows[row].get("pred")}
        for row in np.flatnonzero(chosen)[:MAX_FLIPPED].tolist()
    ]  # fmt: skip


def mcnemar_report(first: BoolArray, second: BoolArray) -> dict[str, Any]:
    """Return McNemar's test: `b` rows that only the first system got right, `c` only the second, and the p-value."""
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return {"b": b, "c": c, "p": mcnemar(b, c)}


def group_differences(first: MetricGroup, second: MetricGroup, seed: int) -> Report:
    """Return the difference of each metric that both groups have; all come from the same resamples."""
    names = [name for name in first.values if name in second.values]
    estimators = {name: (first.estimators[name], second.estimators[name]) for name in names}
    resampled = bootstrap_differences(first.sample, second.sample, estimators, seed)
    return {name: difference(first.values[name], second.values[name], resampled[name]) for name in names}


def difference(value: float | None, other: float | None, resampled: FloatArray) -> dict[str, Any]:
    """Describe one difference. p is twice the share of resamples beyond 0 (Efron and Tibshirani 1993)."""
    defined = resampled[~np.isnan(resampled)]
    bounds = percentile_interval(resampled)
    opposite = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return {
        "value": value,
        "other": other,
        "difference": None if value is None or other is None else value - other,
        "interval": None if bounds is None else list(bounds),
        "p": min(1.0, 2 * (opposite + 1) / (len(defined) + 1)) if len(defined) else None,
    }
