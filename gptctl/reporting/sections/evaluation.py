"""The section of an evaluation: metrics with intervals, baselines, classes, confusion matrix and calibration."""

from __future__ import annotations

from typing import Any

from gptctl.core.formatting import format_interval, format_number
from gptctl.core.summary import Table
from gptctl.reporting import svg_charts
from gptctl.reporting.sections.section import Section, metrics_of, show_figures
from gptctl.reporting.svg_charts import Series

MAX_CLASSES = 30  # in a confusion matrix


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
    classes: dict[str, Any] = metrics.get("per_class") or {}
    if classes:
        section.tables.append(Table(
            "By class", ("class", "precision", "recall", "f1", "texts"),
            tuple((str(name), *(format_number(c.get(k)) for k in ("precision", "recall", "f1", "support")))
                  for name, c in classes.items()),
        ))  # fmt: skip
    confusion = metrics.get("confusion")
    if confusion and len(confusion["labels"]) <= MAX_CLASSES:
        section.matrix = confusion
    bins = [(b["confidence"], b["accuracy"]) for b in metrics.get("calibration") or [] if b.get("n")]
    if bins:
        ideal = Series("perfect calibration", [(0.0, 0.0), (1.0, 1.0)], 4)
        section.charts.append(
            svg_charts.lines("Calibration", [ideal, Series("model", bins, 1, dots=True)], "confidence", "accuracy")
        )
    section.remarks += [("note", text) for text in metrics.get("warnings") or []]


def fits_on_chart(interval: Any, value: float) -> bool:
    """Return whether there is an interval and its value fits on an axis from 0 to 1."""
    return isinstance(interval, list) and None not in interval and 0 <= value <= 1
