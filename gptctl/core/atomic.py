"""The functions that create all files of gptctl, each either completely or not at all.

Each write goes to a temporary file in the same folder. That file is flushed to disk and renamed to the final name, and
the folder is flushed too. So a crash or power cut leaves the old file or the new one, never half of one. A writer that
was killed leaves `*.tmp-PID` behind; `sweep` removes these files.

A flush waits for the disk, at least 0.6 ms. Files that tasks write for each other often need less of it (`Flush`).
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

# "all" survives a power cut. With "file", a power cut may remove the file, but a file that exists is complete. With
# "none", the file survives only the death of the process. Its reader must then verify the content, or that the machine
# has not rebooted since (`boot`).
Flush = Literal["all", "file", "none"]


def operation(path: Path) -> None:
    """Do nothing. It is called before each operation on a file or an object, and tests replace it to inject faults."""


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}")


@contextmanager
def atomic_file(path: Path, flush: Flush = "all") -> Iterator[IO[bytes]]:
    """Yield a binary file that appears as `path` only when it is complete and flushed as `flush` says.

    Raises MachineError (4) if the path can't be written or the disk is full.
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
    """Yield an empty folder that appears as `path` only when everything in it is on disk.

    It replaces an older folder of that name.
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
    """Write a file atomically."""
    with atomic_file(path, flush) as file:
        file.write(data)


def write_text(path: Path, text: str, flush: Flush = "all") -> None:
    """Write a text file atomically, as UTF-8."""
    write_bytes(path, text.encode(), flush)


def write_json(path: Path, value: Any, flush: Flush = "all") -> None:
    """Write strict JSON, with the keys in their given order. Raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", flush)


def append_line(path: Path, line: str) -> None:
    """Append one line to a log. A crash can only cut the last line short."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        operation(path)
        with path.open("ab") as file:
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError as error:
        raise from_os_error(error, path) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files of other, killed writers in `folder`. The caller must hold the folder's lock."""
    for path in sorted(folder.rglob("*.tmp-*")):
        if path.name.endswith(f".tmp-{os.getpid()}"):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def boot() -> str:
    """Return an identifier of this boot of the machine. Files not flushed in an earlier boot may be damaged."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        import psutil

        return str(int(psutil.boot_time()))
