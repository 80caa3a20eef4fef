"""Stop on SIGINT, SIGTERM and SIGUSR1: the command ends at its next safe point, with its state saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from gptctl.core.errors import StoppedError

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """A context manager that records the first signal; a second signal ends the process at once.

    Handlers are installed explicitly, because a shell starts `command &` with SIGINT ignored. Outside the main thread
    (a notebook's worker, a test) it does nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopFlag:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number

    def check(self, what: str = "stopped") -> None:
        """Raise StoppedError (exit code 128 + signal) if a signal was received."""
        if self.signal_number is not None:
            name = signal.Signals(self.signal_number).name
            raise StoppedError(f"{what} by {name}", "run the same command again to go on", self.signal_number)
