"""Lines from standard input, as they are typed or piped in."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator

from gptctl.core.errors import DataError

WAIT_SECONDS = 0.2  # how often `check` is called while there is no input


def read_lines(check: Callable[[], None]) -> Iterator[str]:
    """Yield the lines of standard input that are not blank, each as soon as it is complete.

    `check` is called again and again while waiting, and may raise to stop. Raises DataError (3) for bytes that are not
    UTF-8.
    """
    source, waiting, ended = sys.stdin.fileno(), b"", False
    while not ended or waiting:
        check()
        line, found, rest = waiting.partition(b"\n")
        if not found and not ended:
            if select.select([source], [], [], WAIT_SECONDS)[0]:
                read = os.read(source, 2**16)
                ended = not read
                waiting += read
            continue
        waiting = rest
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError("standard input is not UTF-8", "set the terminal to UTF-8") from error
        if text:
            yield text
