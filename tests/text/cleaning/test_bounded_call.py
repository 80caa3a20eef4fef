"""Whatever a function does in its child process, the caller gets an answer or a reason, in bounded time."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.text.cleaning.bounded_call import BoundedCall, Failure

LINUX = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")


def segfault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def spin() -> None:
    """Hold the interpreter for longer than anyone lives."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def ignore_and_sleep() -> None:
    """Be deaf to whoever asks politely."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def write() -> None:
    """Write on both standard streams, through Python and past it."""
    print("never seen", flush=True)
    os.write(2, b"nor this")


ACTS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(60),
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
    return {path.name for path in Path("/proc/self/fd").iterdir()}


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
    """Each end is named, takes no longer than it may, and leaves the next text unharmed."""
    with BoundedCall(act, 0.6) as bounded:
        assert bounded("before") == "before"
        began = time.monotonic()
        assert bounded(text) == expected
        assert time.monotonic() - began < 15
        assert bounded("after") == "after"


def test_stopped_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that something outside has stopped is given up."""
    monkeypatch.setattr("gptctl.text.cleaning.bounded_call.GRACE_SECONDS", 0.2)
    with BoundedCall(act, 0.1) as bounded:
        assert bounded("stop") == Failure("timeout", "SIGKILL")
        assert bounded("after") == "after"


def test_one_child_serves_many() -> None:
    """Texts share a child, also after an exception; a child killed while idle costs no text."""
    with BoundedCall(act, 5) as bounded:
        child = bounded("pid")
        assert isinstance(child, str) and int(child) != os.getpid()
        assert bounded("leave") == Failure("crash", "SystemExit")
        assert bounded("pid") == child
        os.kill(int(child), signal.SIGKILL)
        time.sleep(0.1)
        assert bounded("text") == "text"


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """A parser's messages do not get between our own."""
    with BoundedCall(act, 5) as bounded:
        assert bounded("write") == "write"
        bounded("segfault")
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters()), st.integers(0, 300_000))
def test_round_trip(text: str, repeats: int) -> None:
    """Any text arrives whole: empty, long, with NUL, with halves of surrogate pairs."""
    long = (text * (repeats // (len(text) or 1) + 1))[: repeats + len(text)]
    with BoundedCall(act, 30) as bounded:
        assert bounded(f"={long}") == f"={long}"


@LINUX
def test_child_holds_only_its_pipes(tmp_path: Path) -> None:
    """The parent's files can be closed for good: no child keeps a lock or a pipe of the parent open."""
    with (tmp_path / "file").open("w") as _, BoundedCall(act, 5) as first, BoundedCall(act, 5) as second:
        for bounded in (first, second):
            files = bounded("files")
            assert isinstance(files, str)
            assert len(files.split()) == 6  # three streams, two pipes, the folder that is listed


@LINUX
def test_close_leaves_nothing() -> None:
    """Neither processes nor files stay behind, however calls ended."""
    files = open_files()
    bounded = BoundedCall(act, 0.1)
    children = [bounded("pid")]
    for text in ("sleep", "segfault", "exit"):
        bounded(text)
        children.append(bounded("pid"))
    bounded.close()
    bounded.close()
    assert open_files() == files
    assert not any(Path(f"/proc/{child}").exists() for child in children)


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
    from gptctl.text.cleaning.bounded_call import BoundedCall

    def act(text):
        if text == "sleep":
            time.sleep(60)
        return str(os.getpid())

    bounded = BoundedCall(act, 1.5)
    print(bounded("pid"), flush=True)
    bounded(sys.argv[1])
    time.sleep(60)
"""


@LINUX
@pytest.mark.parametrize("text", ["sleep", "idle"])
def test_killed_parent_leaves_no_orphan(text: str) -> None:
    """The child of a killed process ends: at once when idle, at its alarm when busy."""
    command = [sys.executable, "-c", textwrap.dedent(PARENT), text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip(), "stat")
        time.sleep(0.2)
        parent.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and child.exists() and child.read_text().split()[2] != "Z":
        time.sleep(0.05)
    assert not child.exists() or child.read_text().split()[2] == "Z"
