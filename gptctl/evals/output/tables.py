"""An evaluation report as small tables for the terminal."""

from __future__ import annotations

from gptctl.core.formatting import format_interval, format_number
from gptctl.core.summary import Table
from gptctl.evals.scoring.report import Report

MAX_CLASSES = 30  # more would scroll the metrics off the screen; --json has all of them


def report_tables(report: Report) -> tuple[Table, ...]:
    """Return the metrics of each split, and classes, confusion matrix and comparisons of the last one."""
    splits = report.get("splits") or {report.get("split", "tasks"): report}
    found = [metrics_table(split, part) for split, part in splits.items()]
    if 0 < len(report.get("per_class") or {}) <= MAX_CLASSES:
        found.append(per_class_table(report))
    if "confusion" in report and len(report["confusion"]["labels"]) <= MAX_CLASSES:
        found.append(confusion_table(report))
    if report.get("baselines"):
        found.append(baselines_table(report["baselines"]))
    if report.get("compare"):
        found.append(comparison_table(report["compare"]))
    if report.get("leakage"):
        found.append(leakage_table(report))
    return tuple(found)


def metrics_table(split: str, report: Report) -> Table:
    """Return the numbers of one split with their intervals."""
    rows = []
    for name, value in report.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        bounds = (report.get("intervals") or {}).get(name)
        rows.append((name, format_number(value), format_interval(bounds)))
    about = report.get("average") or report.get("norm") or "all documents"
    return Table(f"{split} ({about})", ("metric", "value", "95 % interval"), tuple(rows))


def per_class_table(report: Report) -> Table:
    """Return precision, recall, F1 and support of each class."""
    names = ("precision", "recall", "f1", "support")
    rows = tuple(
        (label, *(format_number(values[name]) for name in names)) for label, values in report["per_class"].items()
    )
    return Table("per class", ("class", *names), rows)


def confusion_table(report: Report) -> Table:
    """Return the confusion matrix: a row per true class, a column per predicted class."""
    matrix = report["confusion"]
    columns = ("true \\ predicted", *matrix["labels"], "invalid")
    rows = tuple(
        (label, *(f"{count:,}" for count in row), f"{invalid:,}")
        for label, row, invalid in zip(matrix["labels"], matrix["matrix"], matrix["invalid"], strict=True)
    )
    return Table("confusion", columns, rows)


def baselines_table(baselines: Report) -> Table:
    """Return the metrics of each baseline, and by how much the model beats it."""
    metrics, rows = baseline_rows(baselines)
    return Table("baselines (and how much the model is better)", ("", *metrics, "McNemar p"), tuple(rows))


def baseline_rows(baselines: Report) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the metrics of baselines by name, and a row of their values for each baseline."""
    metrics = list(next(iter(baselines.values()))["lift"])
    rows = [
        (
            name,
            *(f"{format_number(values[metric])} ({format_difference(values['lift'][metric])})" for metric in metrics),
            format_number(values["mcnemar"]["p"]),
        )
        for name, values in baselines.items()
    ]
    return metrics, rows


def comparison_table(comparison: Report) -> Table:
    """Return the metrics of both systems, and whether they differ."""
    rows = comparison_rows(comparison)
    if "mcnemar" in comparison:
        test = comparison["mcnemar"]
        rows.append(("McNemar", f"{test['b']:,} only here", f"{test['c']:,} only there", "", format_number(test["p"])))
    return Table("compared", ("metric", "this", "other", "difference", "p"), tuple(rows))


def comparison_rows(comparison: Report) -> list[tuple[str, ...]]:
    """Return a row for each metric: its name, both values, their difference, and p."""
    return [
        (
            name,
            format_number(values["value"]),
            format_number(values["other"]),
            format_difference(values["difference"]),
            format_number(values["p"]),
        )
        for name, values in comparison.items()
        if isinstance(values, dict) and "difference" in values
    ]


def leakage_table(report: Report) -> Table:
    """Return how many rows were found in the training data, and the metrics without them."""
    leakage = report["leakage"]
    rows = [("rows found", f"{leakage['n']:,} of {report['n']:,}"), ("as a whole", f"{leakage['exact']:,}")]
    clean = {name: value for name, value in leakage["clean"].items() if name != "n"}
    rows += [(f"{name} without them", format_number(value)) for name, value in clean.items()]
    return Table(f"leakage ({leakage['documents']:,} training documents)", ("", "value"), tuple(rows))


def format_difference(value: float | None) -> str:
    """Return a difference with its sign."""
    return "-" if value is None else f"{value:+.4f}"
