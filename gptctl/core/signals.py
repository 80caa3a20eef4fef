"""Stop on SIGINT, SIGTERM, SIGUSR1 and SIGHUP: the command ends at its next safe point, with its state saved.

A second signal ends it at once. Python runs a handler only between two of its own instructions, and a call into a
library can take minutes. So a thread waits for signals too, which needs only that the library has released Python's
lock. If it has not, another process (watcher.py) kills the command.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from gptctl.core.errors import StoppedError
from gptctl.core.watcher import HANDLED, Watcher

GRACE_SECONDS = 1.0  # how long the main thread may take to handle a signal before the watching thread acts


def not_ignored() -> list[signal.Signals]:
    """Return the signals that stop a command: all but SIGHUP if whoever started it has ignored that (`nohup`)."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in HANDLED if number != signal.SIGHUP or not is_ignored]


class StopFlag:
    """A context manager that records the first signal; a second signal ends the process at once.

    Handlers are installed explicitly, because a shell starts `command &` with SIGINT ignored. SIGHUP stays ignored
    under `nohup`. Outside the main thread (a notebook's worker, a test) it does nothing.

    tell: called with a sentence if stopping takes some time. last_words: called with the error of a second signal,
    just before the process ends. With it, the second signal also works while a library computes. output: what is being
    written, "-" for a pipe.
    """

    def __init__(
        self,
        tell: Callable[[str], None] | None = None,
        last_words: Callable[[StoppedError], None] | None = None,
    ) -> None:
        self.signal_number: int | None = None
        self._output = ""
        self._tell = tell
        self._last_words = last_words
        self._previous: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._watcher: Watcher | None = None

    @property
    def output(self) -> str:
        """Return what is being written, or an empty string."""
        return self._output

    @output.setter
    def output(self, name: str) -> None:
        self._output = name
        if self._watcher:
            message, hint = self._state()
            self._watcher.set_last_words(f"{message}\nhint: {hint}\n")

    def __enter__(self) -> StopFlag:
        if threading.current_thread() is threading.main_thread():
            for number in not_ignored():
                self._previous[number] = signal.signal(number, self._handle)
            if self._last_words:
                self._pipe = self._open_pipe()
                signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
                threading.Thread(target=self._watch, args=(self._pipe[0],), daemon=True).start()
        return self

    def _open_pipe(self) -> tuple[int, int]:
        """Return where numbers of signals can be read, and where they are written."""
        self._watcher, Watcher.current = Watcher.current, None
        if self._watcher:
            self.output = self._output
            return self._watcher.passed_on, self._watcher.signals
        pipe = os.pipe()
        os.set_blocking(pipe[1], False)
        return pipe

    def __exit__(self, *_: object) -> None:
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            writer, self._pipe = self._pipe[1], None
            if self._watcher:  # whose end ends the thread
                self._watcher.close()
            else:
                os.close(writer)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            self._end(number)
        self.signal_number = number

    def _watch(self, source: int) -> None:
        """Read the numbers of signals as they arrive. The first is announced, and a second ends the process."""
        first = 0
        while received := os.read(source, 1):
            if received[0] not in HANDLED:
                continue
            time.sleep(GRACE_SECONDS)  # the main thread comes first
            if self._pipe is None:
                break
            if first:
                self._end(received[0])
            first = received[0]
            if self._tell:
                self._tell(f"{signal.Signals(first).name}: stopping after what is being computed; again stops at once")
        os.close(source)

    def _end(self, number: int) -> None:
        """End this process and its workers."""
        if self._last_words:
            with suppress(Exception):
                self._last_words(StoppedError(*self._second(number), number))
        for process in multiprocessing.active_children():
            process.kill()
        os._exit(128 + number)

    def _second(self, number: int) -> tuple[str, str]:
        """Return the message and the hint after a second signal."""
        message, hint = self._state()
        return f"stopped at once by a second {signal.Signals(number).name}: {message}", hint

    def _state(self) -> tuple[str, str]:
        """Return what became of the output, and what to do."""
        if not self.output:
            return "nothing was written", "run the same command again"
        if self.output == "-":
            return "the stream is incomplete, and what reads it will refuse it", "run the pipe again"
        return f"{self.output} is unfinished, and keeps what was complete", "run the same command again to go on"

    def check(self, what: str = "stopped") -> None:
        """Raise StoppedError (exit code 128 + signal) if a signal was received."""
        if self.signal_number is not None:
            name = signal.Signals(self.signal_number).name
            raise StoppedError(f"{what} by {name}", "run the same command again to go on", self.signal_number)
