"""Loggers: where the events of a run go besides events.jsonl. One file per logger; its name is the value of `loggers`.

A logger's module follows `LoggerModule`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from gptctl.core import plugins

PACKAGE = "gptctl.train.loggers"


class Logger(Protocol):
    """Receives the events of one run, in its main process."""

    def log_event(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        """Write one event: "step", "eval", "sample", "checkpoint", "fault" and so on.

        An OSError ends the logger with a warning, not the run.
        """

    def close(self) -> None:
        """Flush everything and close."""


class LoggerModule(Protocol):
    """What the module of a logger defines."""

    def check(self) -> None:
        """Raise MachineError (4) if the logger cannot be used here. It is called before training starts."""

    def build(self, run: Path, step: int) -> Logger:
        """Open the logger of a run folder, which starts or resumes at `step`."""


CONTRACT = LoggerModule


def check(names: Iterable[str]) -> None:
    """Raise UsageError (2) for an unknown logger, and MachineError (4) for one that cannot be used here."""
    for name in names:
        plugins.load(PACKAGE, name).check()
