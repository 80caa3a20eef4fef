"""Call a function in a forked child, so that a crash of native code, a hang or hunger for memory is an outcome too."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import psutil

from gptctl.core.errors import GptctlError

SECONDS = 120  # for work of milliseconds, on a machine that may have much else to do
MORE_BYTES = 512 * 2**20  # for input of a few KiB
CALLS = 60  # by one child: a fork costs 20 ms where torch is loaded, and pyarrow leaks what a failed read was to fill

Outcome = dict[str, Any]


class Child:
    """A function of bytes that runs in a child process, one call after the other; a new child where one ended."""

    def __init__(self, function: Callable[[bytes], Any]) -> None:
        self.function = function
        self.pid = 0
        self.calls = 0

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __call__(self, data: bytes = b"") -> Outcome:
        """Return {"value"}, {"code", "message", "hint"} of a GptctlError, or {"crash"} of anything else."""
        if not self.pid or self.calls == CALLS:
            self.end()
            self.start()
        self.calls += 1
        self.requests.write(len(data).to_bytes(8, "little") + data)
        self.requests.flush()
        size = self.answers.read(8)
        if size:
            return json.loads(self.answers.read(int.from_bytes(size, "little")))  # type: ignore[no-any-return]
        status = self.end()
        ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"
        return {"crash": f"ended by {ended}"}

    def start(self) -> None:
        """Fork."""
        requests, self_requests = os.pipe()
        self_answers, answers = os.pipe()
        self.pid, self.calls = os.fork(), 0
        if not self.pid:
            try:
                os.close(self_requests)
                os.close(self_answers)
                limit()
                with os.fdopen(requests, "rb") as source, os.fdopen(answers, "wb") as sink:
                    while head := source.read(8):
                        data = source.read(int.from_bytes(head, "little"))
                        signal.alarm(SECONDS)
                        answer = json.dumps(told(self.function, data)).encode()
                        sink.write(len(answer).to_bytes(8, "little") + answer)
                        sink.flush()
            finally:
                os._exit(0)
        os.close(requests)
        os.close(answers)
        self.requests, self.answers = os.fdopen(self_requests, "wb"), os.fdopen(self_answers, "rb")

    def end(self) -> int:
        """Let the child go; give its status."""
        if not self.pid:
            return 0
        self.requests.close()
        self.answers.close()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return status


def outcome(function: Callable[[], Any]) -> Outcome:
    """Call a function once in a child."""
    with Child(lambda _: function()) as child:
        return child()


def told(function: Callable[[bytes], Any], data: bytes) -> Outcome:
    """Call the function here and say what came of it."""
    try:
        return {"value": function(data)}
    except GptctlError as error:
        return {"code": error.exit_code, "message": error.message, "hint": error.hint}
    except BaseException:
        return {"crash": traceback.format_exc()}


def limit() -> None:
    """Bound the time and, where the system does that (Linux does), the memory of this process."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + MORE_BYTES, used + MORE_BYTES))


def check(found: Outcome, *codes: int) -> None:
    """Fail for a crash, and for an error that is not one clear line with one of these exit codes (3 if none is named)."""
    assert "crash" not in found, found["crash"]
    if "code" in found:
        assert found["code"] in (codes or (3,)), found
        assert found["message"].strip(), found
        assert found["hint"], found
