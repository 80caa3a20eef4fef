"""Whatever a function does in its child process, the caller gets an answer or a reason, in bounded time."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.text import bounded_call
from gptctl.text.bounded_call import BoundedCall, Failure


def segfault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def spin() -> None:
    """Hold the interpreter for longer than anyone lives."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def ignore_and_sleep() -> None:
    """Be deaf to whoever asks politely."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def write() -> None:
    """Write on both standard streams, through Python and past it."""
    print("never seen", flush=True)
    os.write(2, b"nor this")


ACTS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(600),
    "spin": spin,
    "segfault": segfault,
    "exit": lambda: os._exit(3),
    "leave": lambda: sys.exit("no"),
    "recurse": lambda: act("recurse"),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),  # ignored in the child
    "ignore": ignore_and_sleep,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "number": lambda: 7,
    "write": write,
    "pid": lambda: str(os.getpid()),
    "files": lambda: " ".join(open_files()),
}


def open_files() -> set[str]:
    """List this process's file descriptors, with that of the listing."""
    return {path.name for path in Path("/dev/fd").iterdir()}


def act(text: str) -> str:
    """Do what the text says, or give it back."""
    answer = ACTS[text]() if text in ACTS else None
    return text if answer is None else answer  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sleep", Failure("timeout", "SIGALRM")),
        ("spin", Failure("timeout", "SIGALRM")),
        ("ignore", Failure("timeout", "SIGALRM")),
        ("segfault", Failure("crash", "SIGSEGV")),
        ("exit", Failure("crash", "exit code 3")),
        ("leave", Failure("crash", "SystemExit")),
        ("recurse", Failure("crash", "RecursionError")),
        ("number", Failure("crash", "AttributeError")),
        ("interrupt", "interrupt"),
    ],
)
def test_failures(text: str, expected: str | Failure) -> None:
    """Each end is named, comes although the function would go on for ever, and leaves the next text unharmed."""
    with BoundedCall(act, 0.6) as bounded:
        assert bounded("before") == "before"
        assert bounded(text) == expected
        assert bounded("after") == "after"


def test_stopped_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that something outside has stopped is given up."""
    monkeypatch.setattr("gptctl.text.bounded_call.GRACE_SECONDS", 0.2)
    with BoundedCall(act, 1) as bounded:
        assert bounded("stop") == Failure("timeout", "SIGKILL")
        assert bounded("after") == "after"


@pytest.mark.parametrize(("jump", "expected"), [(0.0, Failure("timeout", "SIGALRM")), (60.0, "second")])
def test_time_while_this_process_was_stopped_costs_no_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jump: float, expected: str | Failure
) -> None:
    """The clock has moved by a minute after each wait, as after Ctrl-Z and fg, and the alarm went off meanwhile."""
    looks = itertools.count()
    monkeypatch.setattr(bounded_call, "time", SimpleNamespace(monotonic=lambda: jump * next(looks)))
    marker = tmp_path / "began"

    def sleep_at_first(_: str) -> str:
        if marker.exists():
            return "second"
        marker.touch()
        ACTS["sleep"]()
        return "first"

    with BoundedCall(sleep_at_first, 1) as bounded:
        assert bounded("text") == expected


def test_one_child_serves_many() -> None:
    """Texts share a child, also after an exception."""
    with BoundedCall(act, 5) as bounded:
        child = bounded("pid")
        assert isinstance(child, str) and int(child) != os.getpid()
        assert bounded("leave") == Failure("crash", "SystemExit")
        assert bounded("pid") == child


def dying_child(monkeypatch: pytest.MonkeyPatch, function: str, call: int, marker: Path, share: float = 0) -> None:
    """Kill the child at its nth call of a function, after a share of what the call writes; only the first child."""
    original: Callable[..., Any] = getattr(bounded_call, function)
    parent, calls = os.getpid(), itertools.count(1)

    def patched(descriptor: int, what: Any) -> Any:
        if os.getpid() != parent and next(calls) == call and not marker.exists():
            marker.touch()
            if share:
                os.write(descriptor, what[: int(len(what) * share)])
            os.kill(os.getpid(), signal.SIGKILL)
        return original(descriptor, what)

    monkeypatch.setattr(bounded_call, function, patched)


@pytest.mark.parametrize("text", ["short", "long " * 100_000])
@pytest.mark.parametrize(
    ("function", "call", "share"),
    [
        pytest.param("read_exactly", 1, 0, id="before it reads the size"),
        pytest.param("read_exactly", 2, 0, id="before it reads the text"),
        pytest.param("write_all", 1, 0, id="before it answers"),
        pytest.param("write_all", 1, 0.5, id="in the middle of its answer"),
    ],
)
def test_a_child_killed_while_it_runs_no_text_costs_no_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, function: str, call: int, share: float
) -> None:
    """However late the death of an idle child is noticed, the text goes to a new one; so does a text whose answer the
    child had found and could not deliver."""
    dying_child(monkeypatch, function, call, tmp_path / "died", share)
    with BoundedCall(act, 5) as bounded:
        assert bounded(text) == text
        assert (tmp_path / "died").exists()


@pytest.mark.parametrize("text", ["short", "long " * 100_000])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_killed_or_stopped_while_idle_costs_no_text(
    monkeypatch: pytest.MonkeyPatch, text: str, end: signal.Signals
) -> None:
    """The text goes to a new child, also where a stopped child leaves the pipe full."""
    monkeypatch.setattr(bounded_call, "GRACE_SECONDS", 0.2)
    with BoundedCall(act, 5) as bounded:
        child = bounded("pid")
        assert isinstance(child, str)
        os.kill(int(child), end)
        while psutil.Process(int(child)).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED):
            time.sleep(0.001)
        bounded.seconds = 2
        assert bounded(text) == text


def test_children_that_always_die_are_not_started_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that no child can even read is a crash after the second."""
    parent, starts = os.getpid(), itertools.count()

    def killed(*_: object) -> None:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(bounded_call, "read_exactly", killed)
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: (next(starts), fork())[1])
    with BoundedCall(act, 5) as bounded:
        assert bounded("text") == Failure("crash", "SIGKILL")
    assert next(starts) == 2


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """A parser's messages do not get between our own."""
    with BoundedCall(act, 5) as bounded:
        assert bounded("write") == "write"
        bounded("segfault")
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters()), st.integers(0, 300_000))
@pytest.mark.slow
def test_round_trip(text: str, repeats: int) -> None:
    """Any text arrives whole: empty, long, with NUL, with halves of surrogate pairs."""
    long = (text * (repeats // (len(text) or 1) + 1))[: repeats + len(text)]
    with BoundedCall(act, 30) as bounded:
        assert bounded(f"={long}") == f"={long}"


def test_child_holds_only_its_pipes(tmp_path: Path) -> None:
    """The parent's files can be closed for good: no child keeps a lock or a pipe of the parent open."""
    with (tmp_path / "file").open("w") as _, BoundedCall(act, 5) as first, BoundedCall(act, 5) as second:
        for bounded in (first, second):
            files = bounded("files")
            assert isinstance(files, str)
            assert len(files.split()) == 6  # three streams, two pipes, the folder that is listed


def test_close_leaves_nothing() -> None:
    """Neither processes nor files stay behind, however calls ended."""
    files = open_files()
    bounded = BoundedCall(act, 1)
    children = [bounded("pid")]
    for text in ("sleep", "segfault", "exit"):
        bounded(text)
        children.append(bounded("pid"))
    bounded.close()
    bounded.close()
    assert open_files() == files
    assert not any(psutil.pid_exists(int(child)) for child in children if isinstance(child, str))


def test_handler_that_raises() -> None:
    """A signal handler that raises while we wait gets through, and the next text gets its own answer."""

    def handler(*_: object) -> None:
        raise InterruptedError("asked to stop")

    previous = signal.signal(signal.SIGUSR2, handler)
    try:
        with BoundedCall(act, 5) as bounded:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR2)).start()
            with pytest.raises(InterruptedError):
                bounded("sleep")
            assert bounded("after") == "after"
    finally:
        signal.signal(signal.SIGUSR2, previous)


def test_works_beside_threads_and_ignored_sigchld() -> None:
    """A worker's thread may call too; where exit statuses are thrown away, a crash is still one."""
    answers: list[str | Failure] = []

    def call() -> None:
        with BoundedCall(act, 5) as bounded:
            answers.extend([bounded("text"), bounded("segfault"), bounded("text")])

    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert answers == ["text", Failure("crash", "unknown exit status"), "text"]


PARENT = """
    import os, sys, time
    from gptctl.text.bounded_call import BoundedCall

    def act(text):
        if text == "sleep":
            open("asleep", "w").close()
            time.sleep(600)
        return str(os.getpid())

    bounded = BoundedCall(act, 1.5)
    print(bounded("pid"), flush=True)
    bounded(sys.argv[1])
    time.sleep(600)
"""


@pytest.mark.parametrize("text", ["sleep", "idle"])
def test_killed_parent_leaves_no_orphan(tmp_path: Path, text: str) -> None:
    """The child of a killed process ends: at once when idle, at its alarm when busy."""
    command = [sys.executable, "-c", textwrap.dedent(PARENT), text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        while text == "sleep" and not (tmp_path / "asleep").exists():
            time.sleep(0.01)
        parent.kill()
    with suppress(psutil.NoSuchProcess):
        while child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)
