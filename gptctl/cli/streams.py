"""Standard streams that are closed, full, or without a reader.

Messages that cannot be written are lost, and the command goes on. A result that cannot be written is an error.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import NoReturn, TextIO

from gptctl.core.errors import STANDARD_OUTPUT, MachineError, PipeClosedError, UsageError


class OutputFile(io.FileIO):
    """Standard output or standard error. `lost` is the first error of a write.

    With `forgiving`, what cannot be written is dropped. Otherwise write raises OSError with the name of the stream.
    """

    def __init__(self, number: int, is_closed: bool, forgiving: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self.is_closed = is_closed
        self.forgiving = forgiving
        self.lost: OSError | None = None

    def write(self, data: object) -> int:
        """Write bytes and return how many were written or dropped."""
        try:
            if self.is_closed:
                raise OSError(errno.EBADF, "it is closed")
            while (count := super().write(data)) is None:  # type: ignore[arg-type]
                select.select([], [self], [])  # another program has made the terminal or pipe non-blocking
        except OSError as error:
            self.lost = self.lost or error
            if self.forgiving:
                return memoryview(data).nbytes  # type: ignore[arg-type]
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error
        return count


class ClosedInput(io.FileIO):
    """Standard input that the caller has closed."""

    def readinto(self, _buffer: object) -> NoReturn:
        """Raise UsageError (2)."""
        raise UsageError("standard input is closed", "pipe data into the command, or name a file or a folder")

    def readall(self) -> NoReturn:
        """Raise UsageError (2)."""
        self.readinto(None)


def prepare() -> None:
    """Replace the standard streams of this process.

    Closed streams are opened on the null device: the next file that is opened would have their number otherwise, and
    a library that prints would write into it.
    """
    closed = [number for number in range(3) if not is_open(number)]
    for number in closed:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
        assert is_open(number)
    if 0 in closed:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(ClosedInput(0, closefd=False)), "utf-8")
    sys.stdout = output(1, sys.stdout, OutputFile(1, 1 in closed, forgiving=False))
    sys.stderr = output(2, sys.stderr, OutputFile(2, 2 in closed, forgiving=True))


def is_open(number: int) -> bool:
    """Return whether this process has a file with this number."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def output(number: int, given: TextIO | None, file: OutputFile) -> io.TextIOWrapper:
    """Return a text stream over a file, with the encoding and buffering of the given one."""
    buffer = io.BufferedWriter(file)
    if not isinstance(given, io.TextIOWrapper):
        return io.TextIOWrapper(buffer, "utf-8", "backslashreplace" if number == 2 else "strict")
    given.flush()
    return io.TextIOWrapper(
        buffer, given.encoding, given.errors, line_buffering=given.line_buffering, write_through=given.write_through
    )


def file_of(stream: TextIO) -> OutputFile | None:
    """Return the file of a stream that `prepare` has made."""
    file = getattr(getattr(stream, "buffer", None), "raw", None)
    return file if isinstance(file, OutputFile) else None


def require_output() -> None:
    """Raise MachineError (4) if standard output is closed."""
    file = file_of(sys.stdout)
    if file is not None and file.is_closed:
        file.write(b"")


def require_messages() -> None:
    """Raise MachineError (4) if lines on standard error were lost, or PipeClosedError (141) if their reader is gone."""
    sys.stderr.flush()
    file = file_of(sys.stderr)
    if file is None or file.lost is None:
        return
    if isinstance(file.lost, BrokenPipeError):
        raise PipeClosedError("the reader of standard error is gone")
    raise MachineError(
        f"standard error cannot be written: {file.lost.strerror}", "use --json for the result on standard output"
    )


def drop_output() -> None:
    """Drop what standard output still holds, which Python would try to write again while it shuts down."""
    file = file_of(sys.stdout)
    if file is not None:
        file.forgiving = True
