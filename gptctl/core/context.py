"""What a stage is given besides its config: a voice, and a way to be stopped. The defaults are silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gptctl.core.signals import StopFlag


class Progress(Protocol):
    """Called often with how far the work has come; whoever shows it decides how often to draw."""

    def __call__(self, done: float, total: float | None, unit: str, note: str = "") -> None:
        """Say that `done` of `total` units are finished; `total` is None while unknown."""


def silent_progress(done: float, total: float | None, unit: str, note: str = "") -> None:
    """Show nothing."""


def silent(message: str) -> None:
    """Say nothing."""


def unseen(figures: dict[str, Any]) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Context:
    """The surroundings of one run."""

    force: bool = False
    argv: tuple[str, ...] = ()
    progress: Progress = silent_progress
    warn: Callable[[str], None] = silent
    say: Callable[[str], None] = silent
    write: Callable[[str], None] = silent
    figures: Callable[[dict[str, Any]], None] = unseen  # of a training run, for a live view
    stop: StopFlag = field(default_factory=StopFlag)
