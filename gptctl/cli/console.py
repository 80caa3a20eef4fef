"""The only module that prints.

Standard output carries what was asked for: data, the one JSON result, or the tables of a command that only shows them.
Standard error carries messages for people.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from gptctl.core.errors import GptctlError
from gptctl.core.formatting import format_duration, format_number
from gptctl.core.redact import redact, redacted
from gptctl.core.visible import one_line, visible

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress

    from gptctl.cli.training_view import TrainingView
    from gptctl.core.summary import Summary, Table

PLAIN_INTERVAL_SECONDS = 30.0
VERBOSE_INTERVAL_SECONDS = 1.0
SHOW_CURSOR = "\r\x1b[J\x1b[?25h"  # and clear the bar


def safe(text: str) -> str:
    """Return a text with characters that act on a terminal made visible, and passwords hidden."""
    return visible(redact(text), lines=True)


def safe_line(text: str) -> str:
    """Return a text as `safe` does, on one line."""
    return visible(redact(text))


def is_live() -> bool:
    """Return whether standard error is a terminal on which lines can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def show_starting(command: str) -> None:
    """Say on a terminal that a command is starting, since importing libraries takes a second or more."""
    if is_live():
        sys.stderr.write(f"gptctl {command}: starting")
        sys.stderr.flush()
        Console.starting = True


def clear_starting() -> None:
    """Remove what `show_starting` has written, if it is still there."""
    if Console.starting:
        Console.starting = False
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


class Console:
    """Prints results, messages and progress: a live bar or view on a terminal, else one plain line every 30 s."""

    starting = False  # whether `show_starting` has written a line that is to be removed

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.interval = VERBOSE_INTERVAL_SECONDS if verbose else PLAIN_INTERVAL_SECONDS
        self.live = is_live() and not quiet
        self.spoken = time.monotonic()
        self.has_written = False  # whether a result went to standard output
        self.warnings: list[str] = []  # that were printed
        self._began: tuple[float, float] | None = None  # time and amount of work done at the first report of progress
        self._bar: Progress | None = None
        self._task: Any = None
        self._unit = ""
        self._view: TrainingView | None = None
        self._live: Live | None = None

    def error(self, error: GptctlError) -> None:
        """Print one line that says what is wrong, and one that says what to do."""
        self.stop_bar()
        print(f"error: {safe(one_line(error.message))}", file=sys.stderr)
        if error.hint:
            print(f"hint: {safe(one_line(error.hint))}", file=sys.stderr)

    def last_words(self, error: GptctlError) -> None:
        """Print an error just before the process ends, wherever it is: nothing is locked, flushed or redrawn."""
        lines = f"error: {safe(one_line(error.message))}\nhint: {safe(one_line(error.hint or ''))}\n"
        os.write(sys.stderr.fileno(), (SHOW_CURSOR if self.live else "").encode() + lines.encode("utf-8", "replace"))

    def warn(self, message: str) -> None:
        """Print a warning, also with --quiet, and remember it for the result."""
        self.warnings.append(message)
        self.stop_bar()
        print(safe(f"warning: {one_line(message)}"), file=sys.stderr, flush=True)

    def info(self, message: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            self.stop_bar()
            print(safe(message), file=sys.stderr, flush=True)

    def write(self, text: str) -> None:
        """Write a piece of a result, such as a streamed sample, to standard output; to a terminal, visibly."""
        clear_starting()
        self.has_written = True
        sys.stdout.write(visible(text, lines=True) if sys.stdout.isatty() else text)
        sys.stdout.flush()

    def progress(self, done: float, total: float | None, unit: str, note: str = "") -> None:
        """Show the progress of the work."""
        if self.quiet:
            return
        if self.live:
            if self._view is None or unit != "steps":
                self._draw(done, total, unit, note)
            return
        now = time.monotonic()
        if self._began is None or unit != self._unit:
            self._began, self._unit = (now, done), unit
        if now - self.spoken >= self.interval:
            self.spoken = now
            rate = (done - self._began[1]) / max(now - self._began[0], 1e-9)
            parts = [amount(done, total, unit)]
            parts += [pace(rate, unit)] if rate > 0 else []
            parts += [f"{format_duration((total - done) / rate)} left"] if total and rate > 0 else []
            print(", ".join(parts) + ("; " + safe_line(note) if note else ""), file=sys.stderr, flush=True)

    def show_metrics(self, metrics: dict[str, Any]) -> None:
        """Draw the metrics of a training run if standard error is a terminal."""
        if not self.live:
            return
        from rich.console import Console as RichConsole
        from rich.live import Live

        from gptctl.cli.training_view import TrainingView

        if self._view is None:
            self.stop_bar()
            self._view = TrainingView()
        self._view.update({name: safe(value) if isinstance(value, str) else value for name, value in metrics.items()})
        if self._live is None:  # at the first drawing, and after each printed line
            self._live = Live(console=RichConsole(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(self._view, refresh=True)

    def _draw(self, done: float, total: float | None, unit: str, note: str) -> None:
        from rich import progress
        from rich.console import Console as RichConsole

        if self._bar is None or unit != self._unit:
            self.stop_bar()
            to_end = (progress.TaskProgressColumn(), progress.TimeRemainingColumn(), progress.TextColumn("left"))
            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                *(to_end if total else (progress.TimeElapsedColumn(),)),
                progress.TextColumn("{task.fields[note]}", markup=False),
            )
            self._bar = progress.Progress(*columns, console=RichConsole(stderr=True), transient=True)
            self._bar.start()
            self._task, self._unit = self._bar.add_task(unit, total=total, note=note), unit
        said = amount(done, total, unit)
        self._bar.update(self._task, completed=done, total=total, description=said, note=safe_line(note))

    def stop_bar(self) -> None:
        """Remove the bar or the view from the screen."""
        clear_starting()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, summary: Summary, are_result: bool = False) -> None:
        """Print a result for people: its tables, its path, and what to run next.

        If the tables `are_result`, they go to standard output, also with --quiet.
        """
        from gptctl.core.summary import Table

        tables = summary.tables
        has_table = any(table.title == "plan" for table in tables)
        if summary.status == "planned" and summary.plan is not None and not has_table:
            tables = (*tables, Table("plan", ("key", "value"), plan_rows(summary.plan)))
        for text in (*map(safe, summary.lines), *map(self.text_of, tables)):
            if are_result:
                self.write(f"{text}\n")
            else:
                self.info(text)
        where = ", ".join(summary.outputs)
        place = f" -> {where}" if where else ""
        self.info(f"{summary.stage}: {summary.final_status}{place} ({format_duration(summary.seconds)})")
        for warning in summary.warnings:
            self.warn(warning)
        if summary.next:
            self.info(f"next: {summary.next}")

    def text_of(self, table: Table) -> str:
        """Return a table as plain text that fits a log, with numbers aligned to the right."""
        rows = [table.columns, *table.rows]
        widths = [max(len(safe_line(row[i])) for row in rows) for i in range(len(table.columns))]
        lines = [f"{safe_line(table.title)}:"]
        for row in rows:
            cells = [
                safe_line(cell).ljust(width) if i == 0 else safe_line(cell).rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  " + "  ".join(cells).rstrip())
        return "\n".join(lines)


def print_json(document: dict[str, Any]) -> None:
    """Print the one JSON result."""
    clear_starting()
    text = json.dumps(redacted(document), allow_nan=False, ensure_ascii=False)
    sys.stdout.write(visible(text) + "\n")  # what remains of such characters is in strings, as \\u009b and the like
    sys.stdout.flush()


def plan_rows(plan: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return a row for each figure of a plan. Nested figures have dotted names, and lists are written a, b.

    A list of records, such as the sources of a mixture, becomes one row for each figure of each record.
    """
    from gptctl.core.config import flatten

    def cell(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else format_number(value)

    rows: list[tuple[str, str]] = []
    for name, value in flatten(plan).items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
            rows += [row for i, item in enumerate(value) for row in plan_rows({f"{name}.{item.get('name', i)}": item})]
        else:
            rows.append((name, cell(value)))
    return tuple(rows)


def amount(done: float, total: float | None, unit: str) -> str:
    """Return how much is done: "7 of 64 shards", "1 shard"."""
    if total:
        return f"{done:,.0f} of {total:,.0f} {unit if total != 1 else singular(unit)}"
    return f"{done:,.0f} {unit if done != 1 else singular(unit)}"


def singular(unit: str) -> str:
    """Return the unit of one: "shard hashed" for "shards hashed"."""
    return re.sub(r"s\b", "", unit, count=1)


def pace(rate: float, unit: str) -> str:
    """Return a speed; for slow work, the time that one unit takes."""
    return f"{rate:,.1f} {unit}/s" if rate >= 1 else f"{format_duration(1 / rate)} per {singular(unit)}"
