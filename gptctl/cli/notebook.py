"""Progress in notebooks: one cell output that is updated in place."""

from __future__ import annotations

import sys
import time
from io import StringIO
from typing import Any

from gptctl.cli.console import Console, safe
from gptctl.core.visible import escape_html

REFRESH_SECONDS = 0.5
WIDTH = 100


def console_for(quiet: bool) -> Console:
    """Return what shows progress here: in a notebook its cell, on a terminal a bar, elsewhere plain lines."""
    return NotebookConsole() if not quiet and in_notebook() else Console(quiet)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    active = shell.get_ipython() if shell is not None else None
    return active is not None and hasattr(active, "kernel")


class NotebookConsole(Console):
    """Shows messages as output of the cell, and progress in one display that is replaced as work goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.live = False
        self._handle: Any = None
        self._drawn = 0.0

    def progress(self, done: float, total: float | None, unit: str, note: str = "") -> None:
        """Show how far the work is, at most twice a second."""
        if self._view is None or unit != "steps":
            of = f" of {total:,.0f}" if total else ""
            self._draw_text(f"{done:,.0f}{of} {unit}{'; ' + note if note else ''}")

    def show_metrics(self, metrics: dict[str, Any]) -> None:
        """Show the figures of a training run."""
        from rich.console import Console as RichConsole

        from gptctl.cli.training_view import TrainingView

        if self._view is None:
            self._view = TrainingView()
        self._view.update({name: safe(value) if isinstance(value, str) else value for name, value in metrics.items()})
        text = StringIO()
        RichConsole(file=text, width=WIDTH, force_jupyter=False).print(self._view)
        self._draw_text(text.getvalue())

    def stop_bar(self) -> None:
        """Remove the progress display."""
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
            self._handle = None

    def _draw_text(self, text: str) -> None:
        """Replace the display."""
        from IPython.display import display

        now = time.monotonic()
        if self._handle is not None and now - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = now
        content = {"text/plain": safe(text), "text/html": f"<pre>{escape_html(safe(text))}</pre>"}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
