"""Curves of training runs by step, by tokens (or texts), and by training time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gptctl.core.formatting import DAY, HOUR, MINUTE
from gptctl.io.lineage import Output
from gptctl.reporting import svg_charts
from gptctl.reporting.events import Event, points, progress_at
from gptctl.reporting.svg_charts import Series


@dataclass(frozen=True)
class Curve:
    """A field of a run's events: its name on the chart, the kind of event, the field, and its colour (1 to 4)."""

    name: str
    events: Sequence[Event]
    kind: str
    field: str
    colour: int
    dots: bool = False

    def points(self, axis: str) -> list[tuple[float, float]]:
        """Return the points by "step", "tokens" or "train_seconds"; none if the events do not have that field."""
        found = points(self.events, self.kind, self.field)
        if axis == "step":
            return found
        place = progress_at(self.events, axis)
        return [(place(step), value) for step, value in found] if place else []


def by_progress(title: str, name: str, curves: Sequence[Curve], unit: str, y_label: str) -> Markup:
    """Draw curves three times: by step, by tokens and by time. The page shows one of the charts at a time.

    `unit` is what the field "tokens" counts. `name` is unique on the page.
    """
    charts = []
    for axis, label in (("step", "step"), ("tokens", unit), ("train_seconds", "time")):
        found = [curve.points(axis) for curve in curves]
        x_label, scale = label, 1.0
        if axis == "train_seconds":
            scale, in_units = time_unit(max((x for one in found for x, _ in one), default=0.0))
            x_label = f"training time ({in_units})"
        series = [
            Series(curve.name, [(x / scale, y) for x, y in one], curve.colour, curve.dots)
            for curve, one in zip(curves, found, strict=True)
        ]
        charts.append(
            (label, svg_charts.lines(f"{title} by {label}", series, x_label, y_label, whole_x=axis != "train_seconds"))
        )
    return svg_charts.choice("by", name, charts)


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit for an axis that ends at a time: its length in seconds, and its name."""
    units = ((2 * DAY, DAY, "days"), (2 * HOUR, HOUR, "hours"), (2 * MINUTE, MINUTE, "minutes"))
    return next(((length, name) for least, length, name in units if seconds >= least), (1.0, "seconds"))


def unit_of(output: Output) -> str:
    """Return what a run counts as its progress: the tokens of a language model, or the texts of a classifier."""
    task = (output.record.get("settings") or {}).get("task", "lm")
    return "texts" if task == "classify" else "tokens"
