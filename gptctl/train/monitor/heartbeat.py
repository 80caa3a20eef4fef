"""The heartbeat file of a rank: its format, and how it is read.

Each rank writes the time and its position in the run into a small file on its own machine (heartbeat_writer.py). The
launcher of that machine reads the files of all its ranks (watchdog.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

FILE_PREFIX = "heartbeat-"  # followed by the rank
WAITING = "wait for others"  # the phase of a rank that has done its part of a step

# The first field is written every second, the others when the rank's work moves on. Times are on the monotonic clock,
# which all processes of a machine share.
ALIVE = struct.Struct("<d")
POSITION = struct.Struct("<dqq?24s")
PHASE_BYTES = 24


@dataclass(frozen=True)
class Position:
    """Where the work of a rank is."""

    time: float
    pid: int  # 0 once the rank has ended normally
    step: int
    has_trained: bool  # whether the process has completed an update
    phase: str

    def pack(self) -> bytes:
        """Return the bytes that follow ALIVE in the file."""
        return POSITION.pack(self.time, self.pid, self.step, self.has_trained, self.phase.encode()[:PHASE_BYTES])


@dataclass(frozen=True)
class Heartbeat:
    """The content of a rank's heartbeat file."""

    alive: float  # when the process last ran
    position: Position


def heartbeat_path(folder: Path, rank: int) -> Path:
    """Return the path of a rank's heartbeat file."""
    return folder / f"{FILE_PREFIX}{rank}"


def read_heartbeats(folder: Path) -> dict[int, Heartbeat]:
    """Return the last heartbeat of each rank that has started and not ended, by rank."""
    found = {}
    for path in folder.glob(f"{FILE_PREFIX}*"):
        data = path.read_bytes()
        if len(data) != ALIVE.size + POSITION.size:
            continue
        (alive,) = ALIVE.unpack_from(data)
        time, pid, step, has_trained, phase = POSITION.unpack_from(data, ALIVE.size)
        if pid:
            position = Position(time, pid, step, has_trained, phase.rstrip(b"\0").decode())
            found[int(path.name.removeprefix(FILE_PREFIX))] = Heartbeat(alive, position)
    return found
