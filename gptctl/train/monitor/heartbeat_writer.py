"""The writer of a rank's heartbeat file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gptctl.train.monitor.heartbeat import ALIVE, Position

INTERVAL_SECONDS = 1.0
BUSY_SECONDS = 3600.0  # how long a rank may read, verify or write a checkpoint: 2 TB at 600 MB/s


class HeartbeatWriter:
    """Writes the time every second, in a thread, and the position of the work when `beat` is called."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_CREAT | os.O_RDWR)
        self.closed = threading.Event()
        self.steps: set[int] = set()  # the first two steps seen: the second one means that an update was completed
        self.busy_until = 0.0
        self.beat(0, "start")
        self.thread = threading.Thread(target=self.write_time, daemon=True)
        self.thread.start()

    def beat(self, step: int, phase: str) -> None:
        """Write that the rank has reached a phase of a step."""
        if step and len(self.steps) < 2:
            self.steps.add(step)
        now = time.monotonic()
        self.position = Position(now, os.getpid(), step, len(self.steps) > 1, phase)
        os.pwrite(self.file, ALIVE.pack(now) + self.position.pack(), 0)

    @contextmanager
    def busy(self, phase: str) -> Iterator[None]:
        """Count as making progress while a block runs, but for no longer than BUSY_SECONDS."""
        self.beat(self.position.step, phase)
        self.busy_until = time.monotonic() + BUSY_SECONDS
        try:
            yield
        finally:
            self.busy_until = 0.0
            self.beat(self.position.step, phase)

    def write_time(self) -> None:
        """Write the time at regular intervals until the writer is closed."""
        while not self.closed.wait(INTERVAL_SECONDS):
            now = time.monotonic()
            moved = replace(self.position, time=now).pack() if now < self.busy_until else b""
            os.pwrite(self.file, ALIVE.pack(now) + moved, 0)

    def close(self) -> None:
        """Write that the rank has ended normally, so that the watchdog ignores it."""
        self.closed.set()
        self.thread.join()
        os.pwrite(self.file, Position(time.monotonic(), 0, 0, False, "").pack(), ALIVE.size)
        os.close(self.file)
