"""Heartbeats and the watchdog: which rank is silent, which is stuck, which only waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gptctl.train.monitor import heartbeat_writer as heartbeat_module
from gptctl.train.monitor.heartbeat import WAITING, Heartbeat, Position, read_heartbeats
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter
from gptctl.train.monitor.watchdog import Watchdog, diagnose
from tests.conftest import REPO


def beat(alive: float, moved: float, step: int = 7, phase: str = "update", trained: bool = True) -> Heartbeat:
    """Return the heartbeat of a rank."""
    return Heartbeat(alive, Position(moved, 1, step, trained, phase))


def test_silence_and_standstill_are_told_apart() -> None:
    """At time 100, with a bound of 20 s."""
    assert diagnose({0: beat(99, 99), 1: beat(90, 50)}, 100, 20) == ""
    assert diagnose({0: beat(99, 85, phase=WAITING), 1: beat(70, 70)}, 100, 20) == (
        "rank 1 has been silent for 30 s, since step 7 (update)"
    )
    assert diagnose({0: beat(99, 75, phase=WAITING), 1: beat(99, 70, phase="read")}, 100, 20) == (
        "all ranks have waited 20 s for rank 1 in step 7 (read)"
    )
    assert diagnose({0: beat(99, 75), 1: beat(99, 70)}, 100, 20) == (
        "no rank of this machine has made progress for 20 s, in step 7 (update)"
    )
    starting = {0: beat(99, 10, 0, "start", False), 1: beat(99, 10, 0, "start", False)}
    assert diagnose(starting, 100, 20) == ""
    assert diagnose(starting, 1000, 2000) == ""


@pytest.mark.slow
def test_a_stopped_process_is_named_and_ended(tmp_path: Path) -> None:
    """A process with a heartbeat is left alone; one that SIGSTOP holds has none for longer than the timeout."""
    script = (
        "import sys, time; from pathlib import Path; from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter\n"
        "heartbeat_writer = HeartbeatWriter(Path(sys.argv[1]))\nfor step in range(1, 10**6): heartbeat_writer.beat(step, 'update'); time.sleep(0.05)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "heartbeat-3")], cwd=REPO)
    while not any(beat.position.has_trained for beat in read_heartbeats(tmp_path).values()):
        time.sleep(0.05)
    with Watchdog(tmp_path, 600) as watchdog:
        first = read_heartbeats(tmp_path)[3].alive
        while read_heartbeats(tmp_path)[3].alive < first + 2:
            time.sleep(0.05)
        assert not watchdog.diagnosis
    with Watchdog(tmp_path, 1.5) as watchdog:
        os.kill(child.pid, signal.SIGSTOP)
        assert child.wait(timeout=30) == -signal.SIGKILL
    assert watchdog.diagnosis.startswith("rank 3 has been silent for")


def test_work_on_a_checkpoint_counts_as_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that is busy moves on without calling `beat`, but not for ever, and not once it is done."""
    monkeypatch.setattr(heartbeat_module, "INTERVAL_SECONDS", 0.01)
    writer = HeartbeatWriter(tmp_path / "heartbeat-0")

    def waits_for_progress() -> bool:
        """Return whether the position moves within three signs of life."""
        before = read_heartbeats(tmp_path)[0]
        alive, signs = before.alive, 0
        while signs < 3:
            now = read_heartbeats(tmp_path)[0]
            signs, alive = signs + (now.alive > alive), now.alive
            if now.position.time > before.position.time:
                return True
        return False

    writer.beat(7, "update")
    with writer.busy("save"):
        assert waits_for_progress()
        assert read_heartbeats(tmp_path)[0].position.phase == "save"
        assert read_heartbeats(tmp_path)[0].position.step == 7
    assert not waits_for_progress()
    monkeypatch.setattr(heartbeat_module, "BUSY_SECONDS", 0.0)
    with writer.busy("save"):
        assert not waits_for_progress()
    writer.close()
