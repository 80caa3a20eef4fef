"""Split a byte stream of any length into lines, without holding more than the longest allowed line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

CHUNK_BYTES = 2**20


class Readable(Protocol):
    """An object with a read method, such as a binary file."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and b"" at the end."""


def line_groups(file: Readable, target_bytes: int, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, complete lines of about `target_bytes` together).

    A line longer than `max_line_bytes` is cut to its first `max_line_bytes` + 1 bytes, so that the parser sees that it
    is too long. The rest of the line is skipped, and offsets remain those of the input.
    """
    offset = 0  # offset of the first byte in `pending`
    pending = bytearray()
    skipping = False
    position = 0  # offset of the next byte to read
    while chunk := file.read(CHUNK_BYTES):
        start = position
        position += len(chunk)
        if skipping:
            newline = chunk.find(b"\n")
            if newline < 0:
                continue
            pending += b"\n"
            yield offset, bytes(pending)
            pending.clear()
            skipping = False
            chunk = chunk[newline + 1 :]
            offset = start + newline + 1
        elif not pending:
            offset = start
        pending += chunk
        last = pending.rfind(b"\n")
        if len(pending) >= target_bytes and last >= 0:
            yield offset, bytes(pending[: last + 1])
            offset += last + 1
            del pending[: last + 1]
            last = -1
        if last < 0 and len(pending) > max_line_bytes:
            del pending[max_line_bytes + 1 :]
            skipping = True
    if pending:
        yield offset, bytes(pending)
