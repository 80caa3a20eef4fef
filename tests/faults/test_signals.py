"""Signals and locks: what is under way ends with its state saved, and one process at a time writes to a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.train.checkpoints import checkpoint_folders
from tests.conftest import Ran, run_gptctl, tree_bytes
from tests.faults.harness import ALONE, assert_honest, assert_whole, expect, start, stop_with, wait_for

Gptctl = Callable[..., Ran]
TRAIN = (
    "--preset",
    "test-modern",
    "--set",
    "log_every=1",
    "--set",
    "checkpoint.every=1",
    "--set",
    "checkpoint.keep=99",
)


@pytest.fixture(scope="module")
def whole(several: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What clean makes of several tasks."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_gptctl("clean", several, "-o", "clean", *ALONE, cwd=folder).code == 0
    return tree_bytes(folder / "clean")


def assert_stopped(numbers: tuple[signal.Signals, ...], code: int, err: str) -> None:
    """Fail unless a process ended as signals ask.

    Signals that arrive together have no order: threads take them, and either may be the second.
    """
    assert code in [128 + number for number in numbers], err
    name = signal.Signals(code - 128).name
    assert "stopped" in err
    assert (f" by {name}\n" if len(numbers) == 1 else f"stopped at once by a second {name}: ") in err


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM,),
        (signal.SIGINT,),
        pytest.param((signal.SIGHUP,), marks=pytest.mark.slow),
        (signal.SIGINT, signal.SIGTERM),
    ],
    ids=["term", "int", "hangup", "two"],
)
def test_a_stage_stops_and_goes_on(
    numbers: tuple[signal.Signals, ...], several: Path, whole: dict[str, bytes], tmp_path: Path, gptctl: Gptctl
) -> None:
    """After the shard under way, its state saved; the second signal ends it at once, and costs that shard."""
    out = tmp_path / "clean"
    process = start("clean", several, "-o", "clean", *ALONE, cwd=tmp_path)
    wait_for(process, lambda: (out / "config.toml").exists())
    found, err = stop_with(process, *numbers)
    assert_stopped(numbers, found, err)
    assert_honest(out)
    if len(numbers) == 1:
        assert json.loads((out / "run.json").read_text())["status"] == "stopped"
    done = gptctl("clean", several, "-o", "clean", *ALONE)
    assert done.code == 0, done.err
    assert_whole(out)
    assert tree_bytes(out) == whole


def test_two_runs_into_one_folder(several: Path, whole: dict[str, bytes], tmp_path: Path, gptctl: Gptctl) -> None:
    """The second is refused at once and changes nothing; when the first is killed, its lock is gone with it."""
    out = tmp_path / "clean"
    process = start("clean", several, "-o", "clean", *ALONE, cwd=tmp_path)
    wait_for(process, lambda: (out / "config.toml").exists())
    os.kill(process.pid, signal.SIGSTOP)
    before = tree_bytes(out)
    expect(gptctl("clean", several, "-o", "clean", *ALONE), 5, f"clean is in use by pid {process.pid} on", " since ")
    assert tree_bytes(out) == before
    process.kill()
    process.communicate()
    assert gptctl("clean", several, "-o", "clean", *ALONE).code == 0
    assert_whole(out)
    assert tree_bytes(out) == whole


def halted(process: subprocess.Popen[bytes]) -> bool:
    """Stop a process, and wait until all its threads stand; fail if it has ended."""
    os.kill(process.pid, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), process.communicate()
    return True


@pytest.fixture(scope="module")
def weights(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run ends with that nothing interrupts."""
    folder = tmp_path_factory.mktemp("trained")
    assert run_gptctl("pretrain", workspace / "tokens", "-o", "run", *TRAIN, cwd=folder).code == 0
    return (folder / "run" / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)], ids=["one", "two"])
@pytest.mark.slow
def test_while_a_checkpoint_is_written(
    numbers: tuple[signal.Signals, ...], workspace: Path, weights: bytes, tmp_path: Path, gptctl: Gptctl
) -> None:
    """Once: it is finished first. Twice: it is as if it had not begun. Either way the same command goes on, bit-equal."""
    folder = tmp_path / "run" / "checkpoints"
    process = start("pretrain", workspace / "tokens", "-o", "run", *TRAIN, cwd=tmp_path)
    wait_for(process, lambda: len(checkpoint_folders.list_checkpoints(folder)) > 2)
    while not halted(process) or not list(folder.glob("*.tmp-*")):  # until it is caught in the act
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)
    found, err = stop_with(process, *numbers)
    assert_stopped(numbers, found, err)
    warnings: list[str] = []
    last = checkpoint_folders.latest_valid(tmp_path / "run", warnings.append)
    assert last == checkpoint_folders.list_checkpoints(folder)[-1]
    assert warnings == []
    if len(numbers) == 1:
        assert not list(folder.glob("*.tmp-*"))
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    done = gptctl("pretrain", workspace / "tokens", "-o", "run", *TRAIN)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == weights
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "resumed"] == [int(last.name.split("-")[1])]
    assert not list((tmp_path / "run").rglob("*.tmp-*"))


LIBRARY_CALL = """
from hashlib import pbkdf2_hmac
from pathlib import Path
from gptctl.core.config import Settings
from gptctl.text.filters import DocumentBatch, FilterResult, Rule

class Config(Settings):
    pass

def rules(config: Config) -> tuple[Rule, ...]:
    return ()

def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    Path("computing").touch()
    CALL
"""


def start_library_call(call: str, folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """Start clean with a filter that makes a call of many minutes, and wait for the call."""
    (folder / "stuck.py").write_text(LIBRARY_CALL.replace("CALL", call))
    plugin = ("--plugin", "stuck.py", "--filters", "stuck")
    process = start("clean", *arguments, "-o", "clean", *plugin, *ALONE, cwd=folder)
    wait_for(process, lambda: (folder / "computing").exists())
    return process


@pytest.mark.parametrize("second", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_the_second_ends_native_code(second: signal.Signals, several: Path, tmp_path: Path) -> None:
    """A library computes for half an hour, and Python runs no handler. The message says what became of the output."""
    process = start_library_call('pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)', tmp_path, several)
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == b"SIGINT: stopping after what is being computed; again stops at once\n"
    process.send_signal(second)
    _, err = process.communicate(timeout=60)
    said = f"by a second {second.name}: clean is unfinished, and keeps what was complete"
    expect(Ran(process.returncode, b"", err.decode()), 128 + second, said, "same command again to go on")
    assert_honest(tmp_path / "clean")


@pytest.mark.slow
def test_the_second_ends_native_code_that_keeps_the_lock(several: Path, tmp_path: Path) -> None:
    """No Python code runs, neither a handler nor a thread: another process kills the command and says what is left."""
    process = start_library_call("sum(range(10**14))", tmp_path, several)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)  # two equal signals that are pending are one
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    said = "killed after a second SIGINT: clean is unfinished, and keeps what was complete"
    expect(Ran(process.returncode, b"", err.decode()), -signal.SIGKILL, said, "same command again to go on")
    assert_honest(tmp_path / "clean")


@pytest.mark.slow
def test_stopped_and_continued(several: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """SIGSTOP and SIGCONT (Ctrl-Z and fg) change nothing."""
    process = start("clean", several, "-o", "clean", "--workers", "2", cwd=tmp_path)
    wait_for(process, lambda: (tmp_path / "clean" / "config.toml").exists())
    for _ in range(3):
        for number in (signal.SIGSTOP, signal.SIGCONT):
            os.killpg(process.pid, number)
            time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert_whole(tmp_path / "clean")
    assert tree_bytes(tmp_path / "clean") == whole


@pytest.mark.slow
def test_nohup(several: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """SIGHUP stays ignored if it was ignored when the command started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("clean", several, "-o", "clean", *ALONE, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(process, lambda: (tmp_path / "clean" / "config.toml").exists())
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert tree_bytes(tmp_path / "clean") == whole


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_to_the_whole_group(number: signal.Signals, several: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """As a terminal that is closed, Slurm and systemd send it: workers leave the decision to the command."""
    process = start("clean", several, "-o", "clean", "--workers", "2", cwd=tmp_path)
    wait_for(process, lambda: (tmp_path / "clean" / "config.toml").exists())
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert_stopped((number,), process.returncode, err.decode())
    assert json.loads((tmp_path / "clean" / "run.json").read_text())["status"] == "stopped"
    assert gptctl("clean", several, "-o", "clean", *ALONE).code == 0
    assert_whole(tmp_path / "clean")
