"""Signs of life: each rank writes down that it lives and how far it is; the launcher reads along.

A rank that falls silent (stopped, swapped out, its disk gone) would leave all others waiting for it in a collective. It
is named and all ranks of the machine are ended, so that they can be started again from the last checkpoint.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from gptctl.core.formatting import format_duration

BEAT_SECONDS = 1.0
START_SECONDS = 900.0  # bound before the first update, which reads data, connects ranks and compiles
LEFT_BEHIND_SECONDS = 20.0  # for ranks to notice by themselves that another one died, before they are ended

ALIVE = struct.Struct("<d")  # when the rank last lived, on the monotonic clock, which all processes share
MOVED = struct.Struct("<dqq?24s")  # when it last went on, its process, step, whether it has trained, and its phase
WAITING = "wait for others"  # the phase in which a rank has done its part of a step


class Pulse:
    """A rank's side: a thread that beats as long as the process runs, and `at` where the work goes on."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_CREAT | os.O_RDWR)
        self.ended = threading.Event()
        self.steps: set[int] = set()  # the first two seen
        self.at(0, "start")
        self.thread = threading.Thread(target=self.beat, daemon=True)
        self.thread.start()

    def at(self, step: int, phase: str) -> None:
        """Say what this rank does now."""
        if step and len(self.steps) < 2:
            self.steps.add(step)
        now, trained = time.monotonic(), len(self.steps) > 1
        os.pwrite(self.file, ALIVE.pack(now) + MOVED.pack(now, os.getpid(), step, trained, phase.encode()[:24]), 0)

    def beat(self) -> None:
        """Write the time now and then."""
        while not self.ended.wait(BEAT_SECONDS):
            os.pwrite(self.file, ALIVE.pack(time.monotonic()), 0)

    def close(self) -> None:
        """Say that this rank ends in good order; nobody waits for it from now on."""
        self.ended.set()
        self.thread.join()
        os.pwrite(self.file, MOVED.pack(time.monotonic(), 0, 0, False, b""), ALIVE.size)
        os.close(self.file)


@dataclass(frozen=True)
class Sign:
    """What a rank wrote last."""

    alive: float
    moved: float
    pid: int
    step: int
    trained: bool  # it has done an update since its process began
    phase: str


def read(folder: Path) -> dict[int, Sign]:
    """Return the last sign of each rank that has begun and not ended, by its number in the file's name."""
    signs = {}
    for path in folder.glob("pulse-*"):
        data = path.read_bytes()
        if len(data) == ALIVE.size + MOVED.size:
            (alive,), (moved, pid, step, trained, phase) = ALIVE.unpack_from(data), MOVED.unpack_from(data, ALIVE.size)
            sign = Sign(alive, moved, pid, step, trained, phase.rstrip(b"\0").decode())
            if sign.pid:
                signs[int(path.name.removeprefix("pulse-"))] = sign
    return signs


def judge(signs: Mapping[int, Sign], now: float, limit: float) -> str:
    """Say which rank is silent or stuck, if any is; else ''."""
    for rank, sign in sorted(signs.items()):
        if now - sign.alive > limit:
            silence = format_duration(now - sign.alive)
            return f"rank {rank} has been silent for {silence}, since step {sign.step} ({sign.phase})"
    patience = limit if any(sign.trained for sign in signs.values()) else max(limit, START_SECONDS)
    if not signs or any(now - sign.moved <= patience for sign in signs.values()):
        return ""
    waited = format_duration(patience)
    behind = {rank: sign for rank, sign in sorted(signs.items()) if sign.phase != WAITING}
    if len(behind) in (0, len(signs)):
        sign = max(signs.values(), key=lambda sign: sign.step)
        return f"no rank of this machine has gone on for {waited}, in step {sign.step} ({sign.phase})"
    named = ", ".join(f"rank {rank} in step {sign.step} ({sign.phase})" for rank, sign in behind.items())
    return f"all ranks have waited {waited} for {named}"


class Watcher:
    """The launcher's side: a thread that reads the signs of this machine's ranks and ends them when one is missing.

    Used as a context manager; `found` says what was wrong.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self.found = ""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> Watcher:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def watch(self) -> None:
        """Look now and then until something is wrong."""
        died = float("inf")
        while not self.ended.wait(min(1.0, self.limit / 4)):
            signs, now = read(self.folder), time.monotonic()
            self.found = judge(signs, now, self.limit)
            if any(not lives(sign.pid) for sign in signs.values()):
                died = min(died, now)
            if self.found or now - died > LEFT_BEHIND_SECONDS:
                self.end(signs)
                return

    def end(self, signs: Mapping[int, Sign]) -> None:
        """Let each rank write where it stands to its standard error (see launch.work), then kill it."""
        for number, pause in ((signal.SIGUSR2, 1.0), (signal.SIGKILL, 0.0)):
            for sign in signs.values():
                try:
                    os.kill(sign.pid, number)
                except ProcessLookupError:
                    continue
            time.sleep(pause)


def lives(pid: int) -> bool:
    """Return whether a process runs; one that ended and was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
