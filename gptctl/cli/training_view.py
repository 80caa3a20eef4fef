"""The live view of a training run on a terminal: progress, losses, speed, and text that the model generates."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gptctl.core.formatting import format_bytes, format_duration

BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # an eighth to eight eighths of a block
ASCII_BARS = "_.-=+*%#"
MAX_LOSSES = 1024  # points of the curve; if there are more, neighbours are averaged
SAMPLE_LINES = 3


class TrainingView:
    """The latest metrics of a run and the curve of its loss."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.losses: list[float] = []

    def update(self, figures: dict[str, Any]) -> None:
        """Replace the metrics by newer ones, and add their loss to the curve."""
        if figures.get("loss") is not None and figures.get("step") != self.figures.get("step"):
            self.losses.append(figures["loss"])
            if len(self.losses) > MAX_LOSSES:
                self.losses = bins(self.losses, MAX_LOSSES // 2)
        self.figures = figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the view as wide as the terminal, with ASCII characters if the terminal can't show others."""
        f = self.figures
        step, steps = f.get("step") or 0, f.get("steps") or 0
        top = Table.grid(expand=True, padding=(0, 1))
        top.add_column(ratio=1)
        top.add_column(no_wrap=True, justify="right")
        left = f.get("seconds_left")
        share = f" ({step / steps:.0%})" if steps else ""
        where = f"step {step:,} of {steps:,}{share}" + (f", {format_duration(left)} left" if left is not None else "")
        top.add_row(ProgressBar(total=max(1, steps), completed=step), Text(f.get("phase") or where, "bold"))
        lines = [self.loss_line(options), self.speed_line()]
        rows = Table.grid(expand=True)
        rows.add_row(top)
        for line in lines:
            line.truncate(options.max_width - 4, overflow="ellipsis")
            rows.add_row(line)
        if f.get("sample"):
            rows.add_row(self.sample(console, options.max_width - 4))
        yield Panel(rows, title="training", title_align="left")

    def loss_line(self, options: ConsoleOptions) -> Text:
        """Return the losses, and the curve of the training loss."""
        f = self.figures
        line = Text().append("loss ", "dim").append(number(f.get("loss"), ".4f"), "bold")
        if f.get("val_loss") is not None:
            line.append("  val ", "dim").append(number(f["val_loss"], ".4f"))
            if f.get("best_loss") is not None:
                line.append("  best ", "dim").append(number(f["best_loss"], ".4f"))
        room = options.max_width - 4 - len(line) - 2
        if room > 4 and self.losses:
            line.append("  ").append(sparkline(self.losses, room, options.ascii_only), "cyan")
        return line

    def speed_line(self) -> Text:
        """Return the speed, MFU, memory, learning rate, gradient norm and last checkpoint."""
        f = self.figures
        unit = f.get("unit", "tokens")
        parts = [
            f"{f['tokens_per_second']:,.0f} {unit}/s" if f.get("tokens_per_second") is not None else "",
            f"MFU {f['mfu']:.0%}" if f.get("mfu") is not None else "",
            format_bytes(f["memory_bytes"]) if f.get("memory_bytes") else "",
            f"lr {f['lr']:.1e}" if f.get("lr") is not None else "",
            f"gradient {f['grad_norm']:.2f}" if f.get("grad_norm") is not None else "",
            f"saved {f['checkpoint']:,}" if f.get("checkpoint") is not None else "",
        ]
        return Text("  ".join(part for part in parts if part))

    def sample(self, console: Console, width: int) -> Text:
        """Return the latest text that the model generated, cut to a few lines."""
        text = Text().append(f"after step {self.figures.get('sample_step', 0):,}: ", "dim")
        text.append(" ".join(self.figures["sample"].split()), "italic")
        return Text("\n").join(text.wrap(console, width)[:SAMPLE_LINES])


def number(value: float | None, form: str) -> str:
    """Return a number as text, or a dash for None."""
    return "-" if value is None else format(value, form)


def bins(values: list[float], count: int) -> list[float]:
    """Reduce values to `count` averages of neighbours."""
    edges = [i * len(values) // count for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def sparkline(values: list[float], width: int, ascii_only: bool = False) -> str:
    """Return values as a row of bars, scaled from their least to their greatest."""
    if len(values) > width:
        values = bins(values, width)
    marks = ASCII_BARS if ascii_only else BARS
    low, high = min(values), max(values)
    scale = (len(marks) - 1) / (high - low) if high > low else 0.0
    return "".join(marks[round((value - low) * scale)] for value in values)
