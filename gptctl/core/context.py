"""Context: how a stage reports its progress and learns that it must stop. The defaults are silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gptctl.core.signals import StopFlag


class Progress(Protocol):
    """A callback for progress. It is called often; the receiver decides how often to draw."""

    def __call__(self, done: float, total: float | None, unit: str, note: str = "") -> None:
        """Report that `done` of `total` units are finished; `total` is None while unknown."""


def ignore_progress(done: float, total: float | None, unit: str, note: str = "") -> None:
    """Ignore progress."""


def ignore_message(message: str) -> None:
    """Ignore a message."""


def ignore_metrics(metrics: dict[str, Any]) -> None:
    """Ignore metrics."""


@dataclass(frozen=True)
class Context:
    """The callbacks and switches of one run."""

    force: bool = False
    argv: tuple[str, ...] = ()
    progress: Progress = ignore_progress
    warn: Callable[[str], None] = ignore_message
    info: Callable[[str], None] = ignore_message
    write: Callable[[str], None] = ignore_message  # pieces of the result, for standard output
    show_metrics: Callable[[dict[str, Any]], None] = ignore_metrics  # of a training run, for a live view
    stop: StopFlag = field(default_factory=StopFlag)
