"""A process that ends a command which does not react to a second signal.

A library that computes without releasing Python's lock keeps every thread of the command from running. So a small
child process, forked before anything large is imported, receives the numbers of the command's signals, passes them
on, and kills the command if it is still there some seconds after the second one.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import time
from contextlib import suppress
from typing import NoReturn

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
WAIT_SECONDS = 3.0  # after the second signal
WORDS_BYTES = 4096


class Watcher:
    """The parent's side. `signals` is where numbers are written, `passed_on` where they can be read."""

    current: Watcher | None = None  # that of this process

    def __init__(self) -> None:
        """Fork. Raises OSError if the system allows no further process or file."""
        self._words = mmap.mmap(-1, WORDS_BYTES)  # shared
        source, self.signals = os.pipe()
        self.passed_on, sink = os.pipe()
        os.set_blocking(self.signals, False)
        command = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            try:
                watch(command, source, sink, self._words, (self.signals, self.passed_on))
            finally:
                os._exit(1)
        os.close(source)
        os.close(sink)

    def set_last_words(self, text: str) -> None:
        """Set what is said if the command is killed. It follows the name of the signal."""
        data = text.encode("utf-8", "replace")[: WORDS_BYTES - 1]
        self._words[:] = data.ljust(WORDS_BYTES, b"\0")

    def close(self) -> None:
        """End the process."""
        os.close(self.signals)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def start_watcher() -> None:
    """Start the watcher of this process. Without the right to start a process there is none."""
    with suppress(OSError):
        Watcher.current = Watcher()


def watch(command: int, source: int, sink: int, words: mmap.mmap, others: tuple[int, ...]) -> NoReturn:
    """Pass numbers of signals on until the command ends, or end it."""
    for number in (*HANDLED, signal.SIGQUIT, signal.SIGPIPE):  # a terminal sends them to all processes of a command
        signal.signal(number, signal.SIG_IGN)
    for descriptor in (*others, 0, 1):  # what reads the command's output waits for all that have it open
        with suppress(OSError):
            os.close(descriptor)
    count = 0
    while count < 2 and (received := os.read(source, 1)):
        count += received[0] in HANDLED
        with suppress(OSError):
            os.write(sink, received)
    if count == 2:
        kill_later(command, received[0], source, words)
    os._exit(0)


def kill_later(command: int, number: int, source: int, words: mmap.mmap) -> None:
    """Kill the command, and say so, unless it ends in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if select.select([source], [], [], left)[0] and not os.read(source, 64):
            return
    said = words[:].rstrip(b"\0")
    with suppress(OSError):
        os.write(2, b"error: killed after a second " + signal.Signals(number).name.encode() + b": " + said)
    if os.getppid() == command:
        os.kill(command, signal.SIGKILL)
