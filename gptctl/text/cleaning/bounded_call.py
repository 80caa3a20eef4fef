"""A function of one string, called in a child process that the kernel ends when its time is up.

Native code cannot be interrupted from Python, and a hostile page may crash it. Here neither costs more than that page:
the child runs one string after the other, and what it cannot survive is reported; the next string gets a new child.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn

REQUEST = struct.Struct("<Q")  # bytes of text that follow
REPLY = struct.Struct("<?Q")  # true: a text follows; false: the name of an exception does
GRACE_SECONDS = 5.0  # past the child's own alarm, for a child that was stopped from outside (SIGSTOP, a debugger)


@dataclass(frozen=True)
class Failure:
    """Why there is no answer: "timeout" or "crash", and for people what ended it ("SIGSEGV", "RecursionError")."""

    kind: Literal["timeout", "crash"]
    detail: str


class StoppedError(Exception):
    """Say that the child neither reads nor writes any more, although it lives."""


class BoundedCall:
    """Call a module-level function of one string, each call at most `seconds` of wall-clock time.

    The child is forked at the first call and lives until it fails or `close`; it ends by itself when this process is
    gone, at once when idle, else at its alarm. What the function imports should be imported before the first call, so
    that no child has to do it. Per call, 2 kB there and back take 50 us, 60 kB 85 us, 500 kB 1.5 ms; a new child takes
    2.5 ms, or 15 ms where this process holds 300 MB.

    Only the child knows whether it was inside the function when it ended, so it says so in a byte of shared memory.
    A child that ended outside, while it was idle or read the text or wrote the answer, was ended by something else than
    the text, which then goes to a second child.
    """

    def __init__(self, function: Callable[[str], str], seconds: float) -> None:
        self.function = function
        self.seconds = seconds
        self._child = 0  # process id; 0: none
        self._requests = self._replies = -1  # our ends of the two pipes
        self._inside = mmap.mmap(-1, 1)  # shared with the child; 1 while it is inside the function

    def __enter__(self) -> BoundedCall:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, text: str) -> str | Failure:
        """Return function(text), or why there is none. It never raises what the function raises."""
        data = text.encode("utf-8", "surrogatepass")
        request = REQUEST.pack(len(data)) + data
        answer = self._ask(request)
        if isinstance(answer, Failure) and not self._child and not self._inside[0]:
            answer = self._ask(request)
        return answer

    def close(self) -> None:
        """End the child, which has nothing to save."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            self._reap()

    def _ask(self, request: bytes) -> str | Failure:
        """Return the child's answer, or how the child ended; then there is no child any more."""
        try:
            if not self._child:
                self._start()
            self._send(request)
            done, size = REPLY.unpack(self._receive(REPLY.size))
            answer = self._receive(size).decode("utf-8", "surrogatepass")
        except (BrokenPipeError, EOFError):
            return self._reap()
        except StoppedError:
            self.close()
            return Failure("timeout", "SIGKILL")
        except BaseException:  # a signal handler raised half-way: pipe and child no longer agree
            self.close()
            raise
        return answer if done else Failure("crash", answer)

    def _send(self, data: bytes) -> None:
        """Write to the child. Raises BrokenPipeError where it has ended, StoppedError where it reads no more."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BlockingIOError:  # the pipe is full
                self._wait(self._requests, select.POLLOUT)

    def _receive(self, size: int) -> bytes:
        """Read from the child. Raises EOFError where it has ended, StoppedError where nothing comes."""
        parts = []
        while size:
            self._wait(self._replies, select.POLLIN)
            part = os.read(self._replies, min(size, 2**20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, descriptor: int, event: int) -> None:
        """Wait until a pipe is ready. Raises StoppedError where the child had all its time and then some."""
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll((self.seconds + GRACE_SECONDS) * 1000):
            raise StoppedError

    def _reap(self) -> Failure:
        """Take the exit status of a child that has ended."""
        child, self._child = self._child, 0
        os.close(self._requests)
        os.close(self._replies)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except ChildProcessError:  # SIGCHLD is ignored in this process, so the kernel has thrown the status away
            return Failure("crash", "unknown exit status")
        if code == -signal.SIGALRM:
            return Failure("timeout", "SIGALRM")
        return Failure("crash", signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def _start(self) -> None:
        """Fork the child. No signal handler runs between: in the child it would run the parent's code."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            child_reads, self._requests = os.pipe()
            self._replies, child_writes = os.pipe()
            os.set_blocking(self._requests, False)
            self._inside[0] = 0
            self._child = os.fork()
            if not self._child:
                serve(self.function, self.seconds, child_reads, child_writes, self._inside)
            os.close(child_reads)
            os.close(child_writes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def serve(function: Callable[[str], str], seconds: float, requests: int, replies: int, inside: mmap.mmap) -> NoReturn:
    """Be the child: answer requests until the parent's pipe closes. Never returns into the parent's code."""
    try:
        requests, replies = leave_parent([requests, replies])
        while True:
            (size,) = REQUEST.unpack(read_exactly(requests, REQUEST.size))
            text = read_exactly(requests, size).decode("utf-8", "surrogatepass")
            inside[0] = 1
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                done, answer = True, function(text).encode("utf-8", "surrogatepass")
            except BaseException as error:
                done, answer = False, type(error).__name__.encode()
            signal.setitimer(signal.ITIMER_REAL, 0)
            inside[0] = 0
            write_all(replies, REPLY.pack(done, len(answer)) + answer)
    except (EOFError, BrokenPipeError):
        os._exit(0)
    finally:
        os._exit(1)


def leave_parent(kept: Iterable[int]) -> list[int]:
    """Drop what a forked process shares with its parent: signal handlers, files, standard streams.

    Gives the file descriptors that are kept, which may have moved.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        # Ctrl-C reaches the whole process group; the parent decides what it means.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    above_streams = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 3) for descriptor in kept]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # the parent's output may be a pipe, and a dying parser's last words are not for it
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = os.fdopen(1, "w", closefd=False)  # a notebook's or a test's write elsewhere
    for opened in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if opened > 2 and opened not in above_streams:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                os.close(opened)
    with contextlib.suppress(OSError):  # Linux only: where memory runs out, this process goes, not its parent
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    return above_streams


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a pipe. Raises BrokenPipeError where nobody reads it any more."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_exactly(descriptor: int, size: int) -> bytes:
    """Read from a pipe. Raises EOFError where it is closed before `size` bytes came."""
    parts = []
    while size:
        part = os.read(descriptor, min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
