"""Faults at file operations: a process that is killed, or whose disk is full, at the Nth one.

FILE_FAULT=kill:N ends the process with SIGKILL at its Nth file operation, counted from 1, and FILE_FAULT=enospc:N raises
"no space left on device" there. Each process counts for itself. gptctl knows nothing of it: `install` replaces
`gptctl.core.atomic.operation`, in the process that tests/warm_start.py forks and, through tests/on_start, in each
interpreter that starts with the environment below.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
from pathlib import Path

VARIABLE = "FILE_FAULT"
ON_START = Path(__file__).parent / "on_start"
REPO = Path(__file__).parent.parent


def environment(fault: str) -> dict[str, str]:
    """Return the variables with which an interpreter, and those that it starts, fail so; none for no fault."""
    return {VARIABLE: fault, "PYTHONPATH": f"{ON_START}{os.pathsep}{REPO}"} if fault else {}


def install(fault: str | None = None) -> None:
    """Let this process fail, as its environment says where nothing is given."""
    fault = os.environ.get(VARIABLE, "") if fault is None else fault
    if not fault:
        return
    from gptctl.core import atomic

    kind, _, when = fault.partition(":")
    operations = itertools.count(1)

    def fail_at(path: Path) -> None:
        if next(operations) == int(when):
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    atomic.operation = fail_at
