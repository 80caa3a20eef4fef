"""The watchdog of a machine: it ends all local ranks when one of them is silent or stuck.

A rank that falls silent (stopped, swapped out, its disk gone) would leave all others waiting for it in a collective.
The watchdog names it and ends all ranks of the machine, so that they can restart from the last checkpoint.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from gptctl.core.formatting import format_duration
from gptctl.train.monitor.heartbeat import WAITING, Heartbeat, read_heartbeats

START_SECONDS = 900.0  # timeout before the first update, which reads data, connects the ranks and compiles
LEFT_BEHIND_SECONDS = 20.0  # how long ranks may take to notice that another one died, before they are ended


class Watchdog:
    """Reads the heartbeats of a machine's ranks in a thread. Used as a context manager.

    `diagnosis` says what was wrong, if anything was.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        self.folder = folder
        self.timeout = timeout
        self.diagnosis = ""
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> Watchdog:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.thread.join()

    def watch(self) -> None:
        """Check all ranks at regular intervals until something is wrong."""
        died_at = float("inf")
        while not self.closed.wait(min(1.0, self.timeout / 4)):
            heartbeats, now = read_heartbeats(self.folder), time.monotonic()
            self.diagnosis = diagnose(heartbeats, now, self.timeout)
            if any(not is_running(heartbeat.position.pid) for heartbeat in heartbeats.values()):
                died_at = min(died_at, now)
            if self.diagnosis or now - died_at > LEFT_BEHIND_SECONDS:
                end_ranks(heartbeats)
                return


def diagnose(heartbeats: Mapping[int, Heartbeat], now: float, timeout: float) -> str:
    """Return a message that names the silent or stuck rank, or "" if there is none."""
    for rank, heartbeat in sorted(heartbeats.items()):
        if now - heartbeat.alive > timeout:
            silence, position = format_duration(now - heartbeat.alive), heartbeat.position
            return f"rank {rank} has been silent for {silence}, since step {position.step} ({position.phase})"
    positions = {rank: heartbeat.position for rank, heartbeat in sorted(heartbeats.items())}
    limit = timeout if any(position.has_trained for position in positions.values()) else max(timeout, START_SECONDS)
    if not positions or any(now - position.time <= limit for position in positions.values()):
        return ""
    waited = format_duration(limit)
    behind = {rank: position for rank, position in positions.items() if position.phase != WAITING}
    if len(behind) in (0, len(positions)):
        latest = max(positions.values(), key=lambda position: position.step)
        return f"no rank of this machine has made progress for {waited}, in step {latest.step} ({latest.phase})"
    named = ", ".join(f"rank {rank} in step {position.step} ({position.phase})" for rank, position in behind.items())
    return f"all ranks have waited {waited} for {named}"


def end_ranks(heartbeats: Mapping[int, Heartbeat]) -> None:
    """Let each rank write its stack to its standard error (see launch.run_rank), then kill it."""
    for number, pause in ((signal.SIGUSR2, 1.0), (signal.SIGKILL, 0.0)):
        for heartbeat in heartbeats.values():
            try:
                os.kill(heartbeat.position.pid, number)
            except ProcessLookupError:
                continue
        time.sleep(pause)


def is_running(pid: int) -> bool:
    """Return whether a process runs. A zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
