"""Reading of files that something else names. They may be pipes or devices, and opening one could wait for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gptctl.core.errors import DataError

MAX_BYTES = 2**28  # of a config, an index, a tokenizer or a template
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def check_regular(path: Path | str) -> None:
    """Raise DataError (3) for a pipe, a device or a socket. A path that does not exist, or a folder, passes."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return
    if kind := KINDS.get(stat.S_IFMT(mode)):
        raise DataError(f"{path} is {kind}, not a file", "put a file there, or make the output again")


def read_regular(path: Path | str, max_bytes: int | None = None) -> bytes:
    """Return the content of a file. Of one with more than `max_bytes`, return the first `max_bytes` + 1 bytes.

    Raises DataError (3) for a pipe, a device or a socket, and OSError as `open` does.
    """
    check_regular(path)
    with Path(path).open("rb") as file:
        return file.read() if max_bytes is None else file.read(min(max_bytes + 1, os.fstat(file.fileno()).st_size))


def read_small(path: Path | str) -> bytes:
    """Return the content of a file such as a config. Raises DataError (3) for one of more than MAX_BYTES, unread."""
    check_regular(path)
    if Path(path).stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES // 2**20} MiB", "copy it again from its source")
    return Path(path).read_bytes()
