"""The launcher with real processes: lost ranks, restarts, the command line, several machines. Mostly slow."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gptctl.core.context import Context
from gptctl.core.errors import MachineError
from gptctl.train.checkpoints import checkpoint_folders
from gptctl.train.data.batch import Batch
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.distributed import launch
from gptctl.train.monitor.heartbeat_writer import BUSY_SECONDS
from gptctl.train.monitor.watchdog import START_SECONDS
from tests.conftest import REPO, Ran
from tests.train.jobs import make_job, only, run_in, text
from tests.train.strategies.test_strategies import assert_close, last
from tests.train.test_loop import events


class Unlucky(TokenWindows):
    """Windows during which a rank gets a signal, once."""

    def __init__(self, marker: Path, number: int, at: int) -> None:
        super().__init__([text()], 32, 7)
        self.marker, self.number, self.at = marker, number, at

    def batch(self, first_index: int, count: int) -> Batch:
        if first_index <= self.at < first_index + count and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), self.number)
        return super().batch(first_index, count)


class ConnectedError(Exception):
    """Raised where a rank would connect to the others."""


def test_collectives_do_not_time_out_before_the_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL's own timeout, 10 minutes, would end a run whose heartbeat_timeout is longer. Its device is the rank's."""
    given: dict[str, Any] = {}

    def connect(backend: str, **options: Any) -> None:
        given.update(options, backend=backend)
        raise ConnectedError

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(launch.device, "select_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(launch.dist, "init_process_group", connect)
    with pytest.raises(ConnectedError):
        launch.run_rank(None, None, make_job(), tmp_path, "pretrain", str(tmp_path), None)  # type: ignore[arg-type]
    assert (given["backend"], given["device_id"]) == ("nccl", torch.device("cuda", 1))
    assert given["timeout"].total_seconds() > 10 * max(START_SECONDS, BUSY_SECONDS)


def test_launchers_without_a_timeout_for_stopped_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11 has no such setting, and newer versions get ours."""
    assert launch.launch_config(make_job(), str(tmp_path), 0).shutdown_timeout == launch.SAVE_SECONDS
    names = [field.name for field in fields(launch.LaunchConfig) if field.name != "shutdown_timeout"]
    older = make_dataclass("LaunchConfig", [(name, Any, None) for name in names])
    monkeypatch.setattr(launch, "LaunchConfig", older)
    assert launch.launch_config(make_job(), str(tmp_path), 0).max_restarts == 0


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_start_again_after_one_was_killed(tmp_path: Path, strategy: str) -> None:
    """kill -9 of a rank in step 14 of 20, resumed from step 10 by itself: every bit as without."""
    job = make_job(recipe={"steps": 20}, world_size=2, strategy=strategy, checkpoint_every=5, max_restarts=1)
    run_in(tmp_path / "straight", replace(job, train_sources=only(partial(Unlucky, tmp_path, signal.SIGKILL, 10**9))))
    said: list[str] = []
    unlucky = replace(job, train_sources=only(partial(Unlucky, tmp_path / "marker", signal.SIGKILL, 13 * 6 + 4)))
    assert run_in(tmp_path / "killed", unlucky, Context(warn=said.append))["steps"] == 20
    assert len(said) == 1
    assert "was killed by SIGKILL; restarting all ranks (1 of 1)" in said[0]
    (resumed,) = events(tmp_path / "killed", "resumed")
    assert resumed["step"] in (5, 10)  # the last one may have been under way
    straight, killed = last(tmp_path / "straight", 20), last(tmp_path / "killed", 20)
    assert all(torch.equal(straight[name], killed[name]) for name in straight)


@pytest.mark.slow
def test_a_rank_that_falls_silent_is_named(tmp_path: Path) -> None:
    """SIGSTOP of a rank: exit 4 with its name after the bound; then the same command goes on."""
    job = make_job(recipe={"steps": 20}, world_size=2, checkpoint_every=5, heartbeat_timeout=4.0)
    unlucky = replace(job, train_sources=only(partial(Unlucky, tmp_path / "marker", signal.SIGSTOP, 13 * 6 + 4)))
    with pytest.raises(MachineError, match=r"rank 1 has been silent for [\d.]+ s, since step 14 \(read\)") as caught:
        run_in(tmp_path / "run", unlucky)
    assert caught.value.exit_code == 4
    assert run_in(tmp_path / "run", job)["steps"] == 20


@pytest.mark.slow
def test_kill_9_and_the_same_command(gptctl: Callable[..., Ran], workspace: Path, tmp_path: Path) -> None:
    """Through the command line, sharded: RUN/model as from one that was never killed, and like any other strategy's."""
    command = ("pretrain", workspace / "tokens", "--steps", "12", "--set", "checkpoint.every=3", "--device", "cpu",
               "--set", "precision=fp32")  # fmt: skip
    for strategy in ("fsdp", "ddp"):
        done = gptctl(*command, "-o", strategy, "--nproc-per-node", "2", "--parallel", strategy)
        assert done.code == 0, done.err
    assert gptctl(*command, "-o", "alone").code == 0
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gptctl",
            *map(str, command),
            "-o",
            "killed",
            "--nproc-per-node",
            "2",
            "--parallel",
            "fsdp",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stderr=subprocess.DEVNULL,
    )
    while checkpoint_folders.latest_valid(tmp_path / "killed") is None and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = gptctl(*command, "-o", "killed", "--nproc-per-node", "2", "--parallel", "fsdp")
    assert done.code == 0, done.err
    files = {name: (tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("fsdp", "killed")}
    assert files["fsdp"] == files["killed"]
    alone = load_file(tmp_path / "alone" / "model" / "model.safetensors")
    for strategy in ("fsdp", "ddp"):
        assert_close(alone, load_file(tmp_path / strategy / "model" / "model.safetensors"), 1e-3)  # lr is 0.05
        names = {path.name for path in (tmp_path / strategy / "model").iterdir()}
        assert names == {path.name for path in (tmp_path / "alone" / "model").iterdir()}
    (newest,) = list((tmp_path / "fsdp" / "checkpoints").glob("step-*12"))
    assert gptctl("generate", newest, "The", "--max-tokens", "4").code == 0


def start_on_two_machines(command: list[str], folder: Path) -> list[dict[str, Any]]:
    """Run a command twice at once; give what each says."""
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    machines = [
        subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    results = []
    for machine in machines:
        out, err = machine.communicate(timeout=200)
        assert machine.returncode == 0, err.decode()
        results.append(json.loads(out))
    return results


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_two_machines(stage: str, workspace: Path, tmp_path: Path) -> None:
    """The same command twice with --nodes 2: one leads and writes the records, both train."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    arguments = {
        "pretrain": [str(workspace / "tokens"), "--steps", "8"],
        "finetune": [str(workspace / "run"), str(workspace / "labelled"), "--epochs", "4"],
    }
    command = [sys.executable, "-m", "gptctl", stage, *arguments[stage], "-o", "run",
               "--device", "cpu", "--nodes", "2", "--rdzv-endpoint", f"localhost:{port}", "--json"]  # fmt: skip
    results = start_on_two_machines(command, tmp_path)
    one, other = (result["metrics"] for result in results)
    assert one["steps"] == other["steps"] == 8
    loss = "val_loss" if stage == "pretrain" else "train_loss"
    assert one[loss] == other[loss]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["kind"] == "run"
    assert len(events(tmp_path / "run", "start")) == 1
    assert [result["status"] for result in start_on_two_machines(command, tmp_path)] == ["up to date", "up to date"]
