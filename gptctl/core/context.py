"""The context of a stage: callbacks that report progress and say when to stop. The defaults do nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gptctl.core.signals import StopFlag


class Progress(Protocol):
    """A callback for progress. It is called often, and decides itself how often to draw."""

    def __call__(self, done: float, total: float | None, unit: str, note: str = "") -> None:
        """Report that `done` of `total` units are finished. `total` is None if it is unknown."""


def ignore_progress(done: float, total: float | None, unit: str, note: str = "") -> None:
    """Ignore progress."""


def ignore_message(message: str) -> None:
    """Ignore a message."""


def ignore_metrics(metrics: dict[str, Any]) -> None:
    """Ignore metrics."""


@dataclass
class Expected:
    """What is known of the work before it is done. `shards` is about how many shards there are."""

    shards: int | None = None


@dataclass(frozen=True)
class Context:
    """The callbacks and switches of one run of a stage."""

    force: bool = False
    argv: tuple[str, ...] = ()
    progress: Progress = ignore_progress
    warn: Callable[[str], None] = ignore_message
    info: Callable[[str], None] = ignore_message
    write: Callable[[str], None] = ignore_message  # writes a piece of the result
    show_metrics: Callable[[dict[str, Any]], None] = ignore_metrics  # draws the metrics of a training run
    stop: StopFlag = field(default_factory=StopFlag)
    expected: Expected = field(default_factory=Expected)

    def report_shards(self, done: int, unit: str = "shards", note: str = "", more: int = 0) -> None:
        """Report progress in shards. `more` shards of another input are read besides those that are expected."""
        total = self.expected.shards
        self.progress(done, None if total is None else max(done, total + more), unit, note)
