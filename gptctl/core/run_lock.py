"""OUT/.lock: the lock of an output folder. The kernel holds it, so it ends with the process."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from gptctl.core.errors import ConflictError, from_os_error
from gptctl.core.run_record import read_record

LOCK = ".lock"


def lock_folder(out: Path, name: str) -> FileLock:
    """Lock a folder, creating it if needed. Raises ConflictError (5) if another process holds the lock."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        holder = read_record(out)
        who = f"pid {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('started', '?')}"
        raise ConflictError(f"{name} is in use by {who}", "wait for it, or choose another folder with -o") from error
    except OSError as error:
        raise from_os_error(error, out) from error
    return lock


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False
