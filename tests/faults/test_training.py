"""Training that is hurt: full disks, damaged checkpoints, other data, lost processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gptctl.train.checkpoints import checkpoint_folders
from tests.conftest import Ran, documents, run_gptctl, tree_bytes, write_jsonl
from tests.faults.harness import expect, fill, flip, grow, start, wait_for

Gptctl = Callable[..., Ran]
STEPS = "24"
TRAIN = ("--preset", "test-modern", "--steps", STEPS)  # the workspace's run ended at 20


@pytest.fixture(scope="module")
def weights(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the workspace's run ends with four steps later."""
    folder = tmp_path_factory.mktemp("longer")
    shutil.copytree(workspace / "run", folder / "run")
    assert run_gptctl("pretrain", workspace / "tokens", "-o", "run", *TRAIN, cwd=folder).code == 0
    return weights_of(folder / "run")


def weights_of(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def events(run: Path, kind: str) -> list[int]:
    """Return the steps of the events of one kind."""
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["event"] == kind]


def test_a_disk_that_is_full_when_a_checkpoint_is_written(
    workspace: Path, weights: bytes, tmp_path: Path, small_disk: Path, gptctl: Gptctl
) -> None:
    """Half of the optimizer's state fits: exit 4, the one before is whole, nothing of the new one is left."""
    grow(small_disk)
    run = small_disk / "run"
    shutil.copytree(workspace / "run", run)
    (last,) = checkpoint_folders.list_checkpoints(run / "checkpoints")
    sizes = [(last / f"{name}.safetensors").stat().st_size for name in ("model", "optimizer")]
    fill(small_disk, sizes[0] + sizes[1] // 2)  # room for checkpoints/best, which is replaced first
    expect(gptctl("pretrain", workspace / "tokens", "-o", run, *TRAIN), 4, "disk full writing", "step-000024")
    assert checkpoint_folders.list_checkpoints(run / "checkpoints") == [last] == [checkpoint_folders.latest_valid(run)]
    assert not list(run.rglob("*.tmp-*"))
    grow(small_disk)
    done = gptctl("pretrain", workspace / "tokens", "-o", run, *TRAIN)
    assert done.code == 0, done.err
    assert weights_of(run) == weights


def test_damaged_checkpoints(workspace: Path, weights: bytes, tmp_path: Path, gptctl: Gptctl) -> None:
    """A bit, a short file, no manifest, an empty folder: each is told and passed over, the last good one is used. When
    none is left, training does not begin again without being told to."""
    run = tmp_path / "run"
    shutil.copytree(workspace / "run", run)
    (good,) = checkpoint_folders.list_checkpoints(run / "checkpoints")
    newer = [good.with_name(f"step-{step:06d}") for step in range(21, 25)]
    for path in newer[:3]:
        shutil.copytree(good, path)
    flip(newer[0] / "optimizer.safetensors")
    os.truncate(newer[1] / "model.safetensors", 1000)
    (newer[2] / "manifest.json").unlink()
    newer[3].mkdir()
    everything = shutil.copytree(run, tmp_path / "all")
    done = gptctl("pretrain", workspace / "tokens", "-o", "run", *TRAIN)
    assert done.code == 0, done.err
    for path in newer:
        assert f"skipping damaged {path.name}" in done.err
    assert events(run, "resumed")[-1] == 20
    assert weights_of(run) == weights
    flip(everything / "checkpoints" / good.name / "state.json")
    before = tree_bytes(everything, "checkpoints", "model")
    done = gptctl("pretrain", workspace / "tokens", "-o", "all", *TRAIN, "-q")
    expect(done, 3, "every checkpoint is damaged", "step-000024", "--force")
    assert tree_bytes(everything, "checkpoints", "model") == before


def test_other_data_or_another_model_is_refused(workspace: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """Exit 5 with what differs; no step is taken."""
    run = shutil.copytree(workspace / "run", tmp_path / "run")
    write_jsonl(tmp_path / "raw.jsonl", documents(60))
    assert gptctl("tokenize", "raw.jsonl", "-o", "other", "--vocab-size", "320", "--val", "0.1").code == 0
    before, steps = tree_bytes(run), events(run, "step")
    expect(gptctl("pretrain", "other", "-o", "run", *TRAIN), 5, "other input: tokens")
    more = ("--set", "model.layers=3")
    expect(gptctl("pretrain", workspace / "tokens", "-o", "run", *TRAIN, *more), 5, "other settings: model")
    assert (tree_bytes(run), events(run, "step")) == (before, steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "has been silent for")],
    ids=["killed", "stopped"],
)
def test_a_lost_process_ends_all(number: int, words: str, workspace: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """Of two on this machine: exit 4 with its number, nobody left behind, and the same command goes on."""
    command = ("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-modern", "--device", "cpu", "--nproc-per-node", "2", "--set", "max_restarts=0",
               "--set", "heartbeat_timeout=5", "--set", "checkpoint.every=5", "--max-minutes")  # fmt: skip
    process = start(*command, "5", cwd=tmp_path)
    wait_for(process, lambda: checkpoint_folders.latest_valid(tmp_path / "run"))
    family = psutil.Process(process.pid).children(recursive=True)
    ranks = [child for child in family if "spawn_main" in " ".join(child.cmdline())]
    assert len(ranks) == 2
    os.kill(ranks[-1].pid, number)
    out, err = process.communicate(timeout=120)
    expect(Ran(process.returncode, out, err.decode()), 4, "rank", words, "same command")
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
