"""The only place that creates files: a name that exists is a file that is whole.

Each write goes to a temporary file in the same folder, is flushed to disk, renamed over the final name, and the folder
is flushed too, so a crash or power cut leaves the old file or the new one, never half of one. A writer that was killed
leaves `*.tmp-PID` behind; `sweep` removes those of processes that are gone. A flush waits for the disk, 0.6 ms at best:
what many tasks write for each other says how much of it is needed (`Flush`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from gptctl.core.errors import from_os_error

# all; file: whole once its name is on disk, which a power cut may undo; none: only what happens to the process is
# safe, so its reader must know it for what it is, or that the machine has not rebooted (`boot`)
Flush = Literal["all", "file", "none"]


def operation(path: Path) -> None:
    """Do nothing before an operation on a file, here or in object storage. Tests put faults in its place."""


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}")


@contextmanager
def atomic_file(path: Path, flush: Flush = "all") -> Iterator[IO[bytes]]:
    """Yield a binary file that appears under `path` only once it is complete and, but for `flush`, on disk.

    Raises MachineError (exit code 4) where the place can't be written or the disk is full.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        operation(path)
        with temporary.open("wb") as file:
            yield file
            operation(path)
            file.flush()
            if flush != "none":
                os.fsync(file.fileno())
        operation(path)
        temporary.replace(path)
        if flush == "all":
            sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise from_os_error(error, path) from error
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that appears under `path` only once everything in it is on disk.

    An older folder of that name is replaced.
    """
    temporary = _temporary(path)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        operation(path)
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        sync_folder(temporary)
        operation(path)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        sync_folder(path.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise from_os_error(error, path) from error
        raise


def write_bytes(path: Path, data: bytes, flush: Flush = "all") -> None:
    """Write a whole file at once."""
    with atomic_file(path, flush) as file:
        file.write(data)


def write_text(path: Path, text: str, flush: Flush = "all") -> None:
    """Write a whole text file as UTF-8."""
    write_bytes(path, text.encode(), flush)


def write_json(path: Path, value: Any, flush: Flush = "all") -> None:
    """Write strict JSON, keys in the order given: the same value gives the same bytes. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", flush)


def append_line(path: Path, line: str) -> None:
    """Add one line to a log. A crash can cut the last line short, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        operation(path)
        with path.open("ab") as file:
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError as error:
        raise from_os_error(error, path) from error


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind in `folder`. Call it only while holding the folder's lock."""
    for path in sorted(folder.rglob("*.tmp-*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def boot() -> str:
    """Identify the time since this machine started: what was not flushed in another one may be damaged."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        import psutil

        return str(int(psutil.boot_time()))
