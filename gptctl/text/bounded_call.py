"""Calls of a function of one string in a child process, which the kernel ends when its time is up.

Native code cannot be interrupted from Python, and a hostile page may crash it. With a child process, either costs only
that page. The child handles one string after the other. If a string makes it time out or crash, that is reported, and
the next string gets a new child.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import select
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn

REQUEST = struct.Struct("<Q")  # number of bytes of the text that follows
REPLY = struct.Struct("<?Q")  # true: a text follows; false: the name of an exception follows
TICK_SECONDS = 0.5  # from one look at the clock to the next while this process waits
STOPPED_SECONDS = 2.0  # a tick that lasts longer means that this process was stopped (Ctrl-Z), or the machine slept
GRACE_SECONDS = 5.0  # after the child's own alarm, for a child that was stopped from outside (SIGSTOP, a debugger)


@dataclass(frozen=True)
class Failure:
    """Why a call has no result: "timeout" or "crash", with the cause for people ("SIGSEGV", "RecursionError")."""

    kind: Literal["timeout", "crash"]
    detail: str


class StoppedError(Exception):
    """The child is alive, but no longer reads or writes."""


class BoundedCall:
    """A callable for a module-level function of one string. Each call takes at most `seconds` of wall-clock time.

    The child is forked at the first call and lives until it fails or `close` is called. If this process dies, the child
    ends too: at once when it is idle, else at its alarm. Import the function's modules before the first call, so that
    no child has to. A call takes 50 us for 2 kB each way, 85 us for 60 kB and 1.5 ms for 500 kB. A new child takes 2.5
    ms, or 15 ms if this process holds 300 MB.

    Only the child knows whether it was inside the function when it ended, so it records this in a byte of shared
    memory. If it ended outside the function, while it was idle, read the text or wrote the answer, then the text was
    not the cause. The text is then sent to a second child.
    """

    def __init__(self, function: Callable[[str], str], seconds: float, memory: int = 0) -> None:
        """Take a function, its seconds, and the bytes that the child may use beside what it starts with; 0 is any."""
        self.function = function
        self.seconds = seconds
        self.memory = memory
        self._child = 0  # process id, or 0 if there is no child
        self._requests = self._replies = -1  # this process's ends of the two pipes
        self._inside = mmap.mmap(-1, 1)  # shared with the child: 1 while it is inside the function
        self._was_stopped = False  # during the present request

    def __enter__(self) -> BoundedCall:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, text: str) -> str | Failure:
        """Return function(text), or a Failure. Exceptions of the function are not raised."""
        data = text.encode("utf-8", "surrogatepass")
        request = REQUEST.pack(len(data)) + data
        answer = self._ask(request)
        if isinstance(answer, Failure) and not self._child:
            was_stopped = answer.kind == "timeout" and self._was_stopped
            if was_stopped or not self._inside[0]:
                answer = self._ask(request)
        return answer

    def close(self) -> None:
        """Kill the child, which has nothing to save."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            self._reap()

    def _ask(self, request: bytes) -> str | Failure:
        """Return the child's answer. If the child ended instead, reap it and return a Failure."""
        self._was_stopped = False
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
        except BaseException:  # a signal handler raised an exception halfway, so pipe and child no longer agree
            self.close()
            raise
        return answer if done else Failure("crash", answer)

    def _send(self, data: bytes) -> None:
        """Write to the child. Raises BrokenPipeError if it has ended, StoppedError if it no longer reads."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BlockingIOError:  # the pipe is full
                self._wait(self._requests, select.POLLOUT)

    def _receive(self, size: int) -> bytes:
        """Read from the child. Raises EOFError if it has ended, StoppedError if nothing arrives."""
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
        """Wait until a pipe is ready. Raises StoppedError if the child has used all its time and the grace period.

        Of the time that this process was stopped, only a tick counts.
        """
        poll = select.poll()
        poll.register(descriptor, event)
        left = self.seconds + GRACE_SECONDS
        while left > 0:
            tick, began = min(TICK_SECONDS, left), time.monotonic()
            ready = poll.poll(tick * 1000)
            self._was_stopped |= time.monotonic() - began > STOPPED_SECONDS
            if ready:
                return
            left -= tick
        raise StoppedError

    def _reap(self) -> Failure:
        """Return a Failure from the exit status of a child that has ended."""
        child, self._child = self._child, 0
        os.close(self._requests)
        os.close(self._replies)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except ChildProcessError:  # SIGCHLD is ignored in this process, so the kernel has discarded the status
            return Failure("crash", "unknown exit status")
        if code == -signal.SIGALRM:
            return Failure("timeout", "SIGALRM")
        return Failure("crash", signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def _start(self) -> None:
        """Fork the child. Signals are blocked meanwhile, because a handler would run the parent's code in the child."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            child_reads, self._requests = os.pipe()
            self._replies, child_writes = os.pipe()
            os.set_blocking(self._requests, False)
            self._inside[0] = 0
            with warnings.catch_warnings():  # Python 3.12 warns of threads, whose locks the child never needs
                warnings.simplefilter("ignore", DeprecationWarning)
                self._child = os.fork()
            if not self._child:
                limit_memory(self.memory)
                serve(self.function, self.seconds, child_reads, child_writes, self._inside)
            os.close(child_reads)
            os.close(child_writes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def serve(function: Callable[[str], str], seconds: float, requests: int, replies: int, inside: mmap.mmap) -> NoReturn:
    """Answer requests in the child until the parent's pipe closes. Never returns into the parent's code."""
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


def limit_memory(size: int) -> None:
    """Let this process use `size` bytes more than now, where the kernel says what it uses (Linux)."""
    with contextlib.suppress(OSError, ValueError):
        if size:
            used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def leave_parent(kept: Iterable[int]) -> list[int]:
    """Release what a forked process shares with its parent: signal handlers, files, standard streams.

    Returns the kept file descriptors, whose numbers may have changed.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        # Ctrl-C reaches the whole process group, and the parent decides what to do.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    above_streams = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 3) for descriptor in kept]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # the parent's output may be a pipe, which must not get a crash message
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = os.fdopen(1, "w", closefd=False)  # in a notebook or a test they write elsewhere
    for opened in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if opened > 2 and opened not in above_streams:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is already closed
                os.close(opened)
    with contextlib.suppress(OSError):  # Linux only: if memory runs out, the kernel ends this process, not its parent
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    return above_streams


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a pipe. Raises BrokenPipeError if its reader has closed it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_exactly(descriptor: int, size: int) -> bytes:
    """Read from a pipe. Raises EOFError if it is closed before `size` bytes have arrived."""
    parts = []
    while size:
        part = os.read(descriptor, min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
