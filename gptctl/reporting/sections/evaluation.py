"""The section of an evaluation: metrics with intervals, baselines, classes, confusion matrix and calibration."""

from __future__ import annotations

from typing import Any

from gptctl.core.formatting import format_count, format_interval, format_number
from gptctl.core.summary import Table
from gptctl.reporting import svg_charts
from gptctl.reporting.matrix import Matrix
from gptctl.reporting.sections.section import Section, metrics_of, show_figures
from gptctl.reporting.svg_charts import Bin

MAX_CLASSES = 30  # in a confusion matrix
MAX_FLIPPED = 20  # rows that are listed of each kind
LEVEL = 0.95  # of the intervals of differences
MAX_ERRORS = 15  # kinds of errors that are listed if there are more classes


def show_eval(section: Section) -> None:
    """Show each metric with its interval and its baselines, the scores by class, confusion matrix and calibration."""
    metrics = metrics_of(section.output)
    intervals: dict[str, Any] = metrics.get("intervals") or {}
    level = (metrics.get("interval") or {}).get("level", 0.95)
    names = [name for name, value in metrics.items() if isinstance(value, float) and name not in ("context",)]
    show_figures(section, metrics, ("n", "invalid", "average", "split"))
    shown = [
        (name, metrics[name], *intervals[name]) for name in names if fits_on_chart(intervals.get(name), metrics[name])
    ]
    section.charts.append(svg_charts.whiskers(f"Metrics and their {level:.0%} intervals", shown))
    baselines: dict[str, Any] = metrics.get("baselines") or {}
    rows = [
        (
            name,
            format_number(metrics[name]),
            format_interval(intervals.get(name)),
            *(format_number(b.get(name)) for b in baselines.values()),
        )
        for name in names
    ]
    columns = ("", "model", f"{level:.0%} interval", *(f"baseline {name}" for name in baselines))
    if rows:
        section.tables.append(Table("Figures", columns, tuple(rows)))
    if comparison := metrics.get("compare"):
        show_comparison(section, comparison)
    classes: dict[str, Any] = metrics.get("per_class") or {}
    if classes:
        section.tables.append(Table(
            "By class", ("class", "precision", "recall", "f1", "texts"),
            tuple((str(name), *(format_number(c.get(k)) for k in ("precision", "recall", "f1", "support")))
                  for name, c in classes.items()),
        ))  # fmt: skip
    confusion = metrics.get("confusion") or {}
    if "matrix" in confusion:
        show_matrix(section, Matrix.from_report(confusion))
    bins = [
        Bin(b["n"], b["confidence"], b["accuracy"], *(b.get("interval") or (b["accuracy"], b["accuracy"])))
        for b in metrics.get("calibration") or []
        if b.get("n")
    ]
    section.charts.append(svg_charts.reliability("Calibration", bins))
    section.remarks += [("note", text) for text in metrics.get("warnings") or []]


def show_comparison(section: Section, comparison: dict[str, Any]) -> None:
    """Show the metrics of both systems, and the rows that only one of them got right."""
    this, other = comparison.get("systems") or ("this", "other")
    columns = ("", this, other, "difference", f"{LEVEL:.0%} interval", "p")
    rows = [
        (
            name,
            format_number(found["value"]),
            format_number(found["other"]),
            format_number(found["difference"]),
            format_interval(found.get("interval")),
            format_number(found["p"]),
        )
        for name, found in comparison.items()
        if isinstance(found, dict) and "difference" in found
    ]
    section.tables.append(Table("Compared on the same rows", columns, tuple(rows)))
    for kind, right, number in (("fixed", this, "b"), ("broken", other, "c")):
        flipped = (comparison.get("flipped") or {}).get(kind) or []
        total = (comparison.get("mcnemar") or {}).get(number, len(flipped))
        if flipped:
            shown = flipped[:MAX_FLIPPED]
            more = f", the first {len(shown)}" if total > len(shown) else ""
            title = f"{kind.capitalize()}: {format_count(total, 'row')} that only {right} has right{more}"
            cells = tuple(tuple(str(row[name]) for name in ("id", "label", "pred", "other")) for row in shown)
            section.tables.append(Table(title, ("id", "label", this, other), cells))


def show_matrix(section: Section, matrix: Matrix) -> None:
    """Show the confusion matrix, or the most frequent errors if it has too many classes."""
    if len(matrix.rows) <= MAX_CLASSES:
        section.matrix = matrix
        return
    rows = tuple(
        (true, predicted, f"{count:,}", f"{share:.1%}")
        for true, predicted, count, share in matrix.largest_confusions(MAX_ERRORS)
    )
    columns = ("true", "predicted", "texts", "share of the true class")
    section.tables.append(Table(f"Most frequent errors of {len(matrix.rows)} classes", columns, rows))


def fits_on_chart(interval: Any, value: float) -> bool:
    """Return whether there is an interval and its value fits on an axis from 0 to 1."""
    return isinstance(interval, list) and None not in interval and 0 <= value <= 1
