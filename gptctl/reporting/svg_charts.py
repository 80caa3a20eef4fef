"""Small charts for the page, in its colours, with their figures as text for screen readers.

Each function returns markup with escaped texts. Lengths are in units of the view box, which is 400 units wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gptctl.core.formatting import format_compact
from gptctl.core.visible import escape_html, visible

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 28, 12, 34
MAX_POINTS = 300


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its points (x, y), and the number of its colour on the page (1 to 4).

    A series of one point is drawn as a dot with its value.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 1
    dots: bool = False


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram: n predictions with their mean confidence, accuracy and its interval."""

    n: int
    confidence: float
    accuracy: float
    low: float
    high: float


def lines(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    from_zero: bool = False,
    whole_x: bool = False,
) -> Markup:
    """Draw lines over a common axis. Return empty markup if no series has two points.

    `whole_x` draws ticks only at whole numbers.
    """
    series = [one for one in series if one.points]
    if not any(len(one.points) > 1 for one in series):
        return Markup("")
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    axes = Axes(ticks(min(xs), max(xs), whole=whole_x), ticks(0 if from_zero else min(ys), max(ys)), xs, ys)
    parts = axes.grid(x_label)
    for one in series:
        drawn = [(axes.x(x), axes.y(y)) for x, y in thin(one.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline class="s{one.colour}" points="{path}"/>')
        if one.dots or len(drawn) == 1:
            parts += [f'<circle class="d{one.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in drawn]
        if len(drawn) == 1:
            left = drawn[0][0] > WIDTH / 2
            value, side = format_compact(one.points[0][1]), "end" if left else "start"
            x, y = drawn[0][0] + (-7 if left else 7), drawn[0][1] + (16 if drawn[0][1] < HEIGHT / 2 else -6)
            parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{side}">{value}</text>')
    description = "; ".join(
        f"{one.name} {format_compact(one.points[0][1])}"
        if len(one.points) == 1
        else f"{one.name} from {format_compact(one.points[0][1])} to {format_compact(one.points[-1][1])}"
        for one in series
    )
    return figure(title, f"{description}; by {x_label}", parts, HEIGHT, legend(series, y_label))


@dataclass(frozen=True)
class Axes:
    """The scales of a chart: round numbers along both axes, and all values that must fit."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    xs: Sequence[float]
    ys: Sequence[float]

    def x(self, value: float) -> float:
        """Return the place of a value along the horizontal axis."""
        low, high = min(self.xs), max(self.xs)
        return LEFT + (value - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the place of a value along the vertical axis."""
        low, high = min(self.y_ticks[0], *self.ys), max(self.y_ticks[-1], *self.ys)
        return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)

    def grid(self, x_label: str) -> list[str]:
        """Return the grid lines, the numbers along the axes, and the name of the horizontal axis."""
        parts = []
        for tick in self.y_ticks:
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{format_compact(tick)}</text>')
        below = HEIGHT - BOTTOM + 16
        parts += [
            f'<text x="{self.x(tick):.1f}" y="{below}" text-anchor="middle">{format_compact(tick)}</text>'
            for tick in self.x_ticks
            if min(self.xs) <= tick <= max(self.xs)
        ]
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape_html(x_label)}</text>')
        return parts


def reliability(title: str, bins: Sequence[Bin]) -> Markup:
    """Draw accuracy by confidence: one dot for each bin, larger if it has more predictions, with its interval.

    No line joins the dots, because a bin with few predictions may lie anywhere.
    """
    if not bins:
        return Markup("")
    most = max(one.n for one in bins)
    axes = Axes((0, 0.25, 0.5, 0.75, 1), (0, 0.25, 0.5, 0.75, 1), (0, 1), (0, 1))
    parts = axes.grid("confidence")
    parts.append(f'<line class="s4" x1="{axes.x(0)}" y1="{axes.y(0)}" x2="{axes.x(1)}" y2="{axes.y(1)}"/>')
    for one in bins:
        x, radius = axes.x(one.confidence), 2 + 5 * math.sqrt(one.n / most)
        parts.append(
            f'<line class="s1" x1="{x:.1f}" x2="{x:.1f}" y1="{axes.y(one.low):.1f}" y2="{axes.y(one.high):.1f}"/>'
            f'<circle class="d1" cx="{x:.1f}" cy="{axes.y(one.accuracy):.1f}" r="{radius:.1f}"/>'
        )
    description = "; ".join(
        f"{one.n:,} with confidence {one.confidence:.2f}: accuracy {one.accuracy:.2f}, {one.low:.2f} to {one.high:.2f}"
        for one in bins
    )
    shown = [Series("perfect", (), 4), Series("model (dot: size of the bin)", (), 1)]
    return figure(title, description, parts, HEIGHT, legend(shown, "accuracy, 95% interval"))


def bars(title: str, rows: Sequence[tuple[str, float, str, int]]) -> Markup:
    """Draw one bar for each row (label, value, text beside it, colour). The longest bar is as wide as the section."""
    if not rows:
        return Markup("")
    most = max(value for _, value, _, _ in rows) or 1
    bar = Markup(
        '<li><span>{}</span> <span class="number">{}</span><span class="track"><span class="bar k{}" '
        'style="width:{:.2f}%"></span></span></li>'
    )
    items = Markup("").join(fill(bar, label, note, colour, 100 * value / most) for label, value, note, colour in rows)
    return fill('<figure class="full"><figcaption>{}</figcaption><ul class="bars">{}</ul></figure>', title, items)


def choice(label: str, name: str, options: Sequence[tuple[str, Markup]]) -> Markup:
    """Return several charts of which one is shown, and buttons that choose it. `name` is unique on the page."""
    options = [(option, chart) for option, chart in options if chart]
    if len(options) < 2:
        return options[0][1] if options else Markup("")
    button = Markup('<input type="radio" name="{0}" id="{0}-{1}"{2}><label for="{0}-{1}">{3}</label>')
    buttons = Markup("").join(
        fill(button, name, place, "" if place else Markup(" checked"), option)
        for place, (option, _) in enumerate(options)
    )
    charts = Markup("").join(fill('<div class="option">{}</div>', chart) for _, chart in options)
    return fill('<fieldset class="choice"><legend>{}</legend>{}{}</fieldset>', label, buttons, charts)


def whiskers(title: str, rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """Draw values between 0 and 1 with their intervals, one for each row (label, value, low, high)."""
    if not rows:
        return Markup("")
    step, left = 30, 124
    high = len(rows) * step + 24

    def at_x(value: float) -> float:
        return left + min(max(value, 0.0), 1.0) * (WIDTH - left - 16)

    parts = [
        f'<line class="grid" x1="{at_x(tick):.1f}" x2="{at_x(tick):.1f}" y1="0" y2="{len(rows) * step}"/>'
        f'<text x="{at_x(tick):.1f}" y="{high - 6}" text-anchor="middle">{tick:g}</text>'
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    for place, (label, value, low, top) in enumerate(rows):
        y = place * step + 15
        parts.append(f'<text x="0" y="{y + 4}">{escape_html(label)}</text>')
        parts.append(f'<line class="s1 thick" x1="{at_x(low):.1f}" x2="{at_x(top):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="d1" cx="{at_x(value):.1f}" cy="{y}" r="5"/>')
    description = "; ".join(f"{label} {value:.3f}, {low:.3f} to {top:.3f}" for label, value, low, top in rows)
    return figure(title, description, parts, high)


def legend(series: Sequence[Series], unit: str) -> Markup:
    """Return the names of the series beside their colours, and the unit of the vertical axis."""
    names = Markup("").join(fill('<li><span class="key k{}"></span>{}</li>', one.colour, one.name) for one in series)
    return fill('<ul class="legend">{}<li class="unit">{}</li></ul>', names, unit)


def figure(title: str, description: str, parts: Sequence[str], height: int, legend: Markup | None = None) -> Markup:
    """Return the parts of a drawing, whose texts are escaped, as a figure with title and description."""
    inside = Markup("".join(parts))  # noqa: S704
    return fill(
        '<figure><figcaption>{0}</figcaption>{1}<div class="wide" tabindex="0" role="group" aria-label="{0}">'
        '<svg role="img" viewBox="0 0 {2} {3}"><title>{0}</title><desc>{4}</desc>{5}</svg></div></figure>',
        title,
        legend or "",
        WIDTH,
        height,
        description,
        inside,
    )


def fill(template: str, *values: Any) -> Markup:
    """Return markup with values in its places: markup as it is, and texts escaped."""
    return Markup(template).format(  # noqa: S704 the templates are written here
        *(visible(one, lines=True) if isinstance(one, str) and not isinstance(one, Markup) else one for one in values)
    )


def ticks(low: float, high: float, wanted: int = 4, whole: bool = False) -> list[float]:
    """Return round numbers that cover `low` to `high` in about `wanted` steps; `whole` numbers on request."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * 0.999)
    step = max(1, math.ceil(step)) if whole else step
    first = math.floor(low / step)
    return [round(place * step, 12) for place in range(first, math.ceil(high / step) + 1)]


def thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return about MAX_POINTS of the points, at equal distances and with the last."""
    every = -(-len(points) // MAX_POINTS)
    return [*points[: len(points) - 1 : every], points[-1]] if every > 1 else points
