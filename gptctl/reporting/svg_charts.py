"""Small charts as inline SVG, in the colours of the page, with their figures as text for screen readers.

Each function returns markup with escaped texts. Lengths are in units of the view box, which is 400 units wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gptctl.core.formatting import format_compact

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 34
MAX_POINTS = 300


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its points (x, y), and the number of its colour on the page (1 to 4)."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 1
    dots: bool = False


def lines(title: str, series: Sequence[Series], x_label: str, y_label: str, from_zero: bool = False) -> Markup:
    """Draw lines over a common axis. Return empty markup if no series has a point."""
    series = [one for one in series if one.points]
    if not series:
        return Markup("")
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(0 if from_zero else min(ys), max(ys))
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def at_x(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / ((y_high - y_low) or 1) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for y in y_ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" text-anchor="end">{format_compact(y)}</text>')
    parts += [
        f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{format_compact(x)}</text>'
        for x in x_ticks
        if x_low <= x <= x_high
    ]
    for one in series:
        drawn = thin(one.points)
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in drawn)
        parts.append(f'<polyline class="s{one.colour}" points="{path}"/>')
        if one.dots or len(drawn) == 1:
            parts += [f'<circle class="d{one.colour}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3"/>' for x, y in drawn]
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_label)}</text>')
    description = "; ".join(
        f"{s.name} from {format_compact(s.points[0][1])} to {format_compact(s.points[-1][1])}" for s in series
    )
    names = Markup("").join(
        Markup('<li><span class="key k{}"></span>{}</li>').format(one.colour, one.name) for one in series
    )
    legend = Markup('<ul class="legend">{}<li class="unit">{}</li></ul>').format(names, y_label)
    return figure(f"{title}: {description}", parts, HEIGHT, title, legend)


def bars(title: str, rows: Sequence[tuple[str, float, str, int]]) -> Markup:
    """Draw one bar for each row (label, value, text beside it, colour). The longest bar is as wide as the chart."""
    if not rows:
        return Markup("")
    step, high = 40, len(rows) * 40 + 4
    most = max(value for _, value, _, _ in rows) or 1
    parts = []
    for place, (label, value, note, colour) in enumerate(rows):
        top = place * step
        wide = max(value / most * WIDTH, 1 if value else 0)
        parts.append(f'<text x="0" y="{top + 14}">{escape(label)}</text>')
        parts.append(f'<text x="{WIDTH}" y="{top + 14}" text-anchor="end" class="number">{escape(note)}</text>')
        parts.append(f'<rect class="track" x="0" y="{top + 20}" width="{WIDTH}" height="12" rx="3"/>')
        parts.append(f'<rect class="d{colour}" x="0" y="{top + 20}" width="{wide:.1f}" height="12" rx="3"/>')
    description = "; ".join(f"{label} {note}" for label, _, note, _ in rows)
    return figure(f"{title}: {description}", parts, high, title)


def whiskers(title: str, rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """Draw values between 0 and 1 with their intervals, one for each row (label, value, low, high)."""
    if not rows:
        return Markup("")
    step, left = 30, 104
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
        parts.append(f'<text x="0" y="{y + 4}">{escape(label)}</text>')
        parts.append(f'<line class="s1 thick" x1="{at_x(low):.1f}" x2="{at_x(top):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="d1" cx="{at_x(value):.1f}" cy="{y}" r="5"/>')
    description = "; ".join(f"{label} {value:.3f}, {low:.3f} to {top:.3f}" for label, value, low, top in rows)
    return figure(f"{title}: {description}", parts, high, title)


def figure(description: str, parts: Sequence[str], height: int, title: str, legend: Markup | None = None) -> Markup:
    """Return the parts of a drawing, whose texts are escaped, as a figure with title and description."""
    inside = Markup("".join(parts))  # noqa: S704
    return Markup(
        '<figure><figcaption>{}</figcaption>{}<div class="wide" tabindex="0" role="group" aria-label="{}">'
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg></div></figure>'
    ).format(title, legend or "", title, description, WIDTH, height, inside)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round numbers that cover `low` to `high` in about `wanted` steps."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * 0.999)
    first = math.floor(low / step)
    return [round(place * step, 12) for place in range(first, math.ceil(high / step) + 1)]


def thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return about MAX_POINTS of the points, at equal distances and with the last."""
    every = -(-len(points) // MAX_POINTS)
    return [*points[: len(points) - 1 : every], points[-1]] if every > 1 else points
