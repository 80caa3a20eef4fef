"""Signs of life: who is silent, who is stuck, who only waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gptctl.train.monitor import heartbeat
from tests.conftest import REPO


def sign(alive: float, moved: float, step: int = 7, phase: str = "update", trained: bool = True) -> heartbeat.Sign:
    """Describe a rank."""
    return heartbeat.Sign(alive, moved, 1, step, trained, phase)


def test_silence_and_standstill_are_told_apart() -> None:
    """At time 100, with a bound of 20 s."""
    assert heartbeat.judge({0: sign(99, 99), 1: sign(90, 50)}, 100, 20) == ""
    assert heartbeat.judge({0: sign(99, 85, phase=heartbeat.WAITING), 1: sign(70, 70)}, 100, 20) == (
        "rank 1 has been silent for 30 s, since step 7 (update)"
    )
    assert heartbeat.judge({0: sign(99, 75, phase=heartbeat.WAITING), 1: sign(99, 70, phase="read")}, 100, 20) == (
        "all ranks have waited 20 s for rank 1 in step 7 (read)"
    )
    assert heartbeat.judge({0: sign(99, 75), 1: sign(99, 70)}, 100, 20) == (
        "no rank of this machine has gone on for 20 s, in step 7 (update)"
    )
    starting = {0: sign(99, 10, 0, "start", False), 1: sign(99, 10, 0, "start", False)}
    assert heartbeat.judge(starting, 100, 20) == ""
    assert heartbeat.judge(starting, 1000, 2000) == ""


def test_a_stopped_process_is_named_and_ended(tmp_path: Path) -> None:
    """A process that beats is left alone; one that SIGSTOP holds gives no sign of life for longer than the bound."""
    script = (
        "import sys, time; from pathlib import Path; from gptctl.train.monitor.heartbeat import Pulse\n"
        "pulse = Pulse(Path(sys.argv[1]))\nfor step in range(1, 10**6): pulse.at(step, 'update'); time.sleep(0.05)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pulse-3")], cwd=REPO)
    while not any(sign.trained for sign in heartbeat.read(tmp_path).values()):
        time.sleep(0.05)
    with heartbeat.Watcher(tmp_path, 600) as watcher:
        first = heartbeat.read(tmp_path)[3].alive
        while heartbeat.read(tmp_path)[3].alive < first + 2:
            time.sleep(0.05)
        assert not watcher.found
    with heartbeat.Watcher(tmp_path, 1.5) as watcher:
        os.kill(child.pid, signal.SIGSTOP)
        assert child.wait(timeout=30) == -signal.SIGKILL
    assert watcher.found.startswith("rank 3 has been silent for")
