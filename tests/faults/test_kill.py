"""Killed, or out of disk, at any file operation: the same command again gives the same bytes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import psutil
import pytest

from gptctl.io.dataset import manifest
from tests.conftest import Ran, tree_bytes
from tests.faults.harness import ALONE, STAGES, assert_honest, assert_unfinished, assert_whole, expect, start, wait_for

Gptctl = Callable[..., Ran]


@pytest.mark.parametrize("fault", ["kill", "enospc"])
@pytest.mark.parametrize(
    ("stage", "step"),
    [("clean", 11), ("tokenize", 13), pytest.param("dedup", 23, marks=pytest.mark.slow)]
    + [pytest.param(stage, 2, marks=pytest.mark.slow) for stage in ("clean", "tokenize", "dedup")]
    + [pytest.param("split", 9, marks=pytest.mark.slow)],
    ids=["clean", "tokenize", "dedup", "clean-often", "tokenize-often", "dedup-often", "split"],
)
def test_any_operation(stage: str, step: int, fault: str, small: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """At one file operation after the other, until a run comes to its end: nothing is lost, nothing half there."""
    command = (*STAGES[stage], small, *ALONE, "-o")
    assert gptctl(*command, "whole").code == 0
    whole = tree_bytes(tmp_path / "whole")
    for operation in count(1 if fault == "kill" else 2, step):
        out = tmp_path / "out"
        broken = gptctl(*command, "out", fault=f"{fault}:{operation}")
        if broken.code == 0:
            break
        assert_honest(out)
        if fault == "kill":
            assert broken.code == -signal.SIGKILL, broken.err
        else:
            expect(broken, 4, "disk full writing out/", "B free", "free space")
            assert not list(out.rglob("*.tmp-*"))
        again = gptctl(*command, "out")
        assert again.code == 0, (operation, again.err)
        assert_whole(out)
        assert tree_bytes(out) == whole, operation
        shutil.rmtree(out)
    assert operation > 15
    assert tree_bytes(tmp_path / "out") == whole


@pytest.mark.slow
def test_a_shard_without_its_record_is_made_again(small: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """Killed between the shard's name and its record: its rows are counted once."""
    found = 0
    for operation in range(1, 30):
        command = ("clean", small, *ALONE, "-o", f"out{operation}")
        killed = gptctl(*command, fault=f"kill:{operation}")
        out = tmp_path / f"out{operation}"
        if killed.code == 0:
            break
        if list(out.glob("shards/*.arrow")) and not list(out.glob("work/*.json")):
            found += 1
            done = gptctl(*command, "--json")
            counts = done.json["counts"]
            assert (counts["in"], counts["kept"] + sum(counts["dropped"].values())) == (40, 40)
            assert sum(shard.rows for shard in manifest.read(out).shards) == counts["kept"]
            assert_whole(out)
    assert found


def test_finished_shards_are_not_made_again(several: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """Of a run that was killed, or whose disk was full, the same command makes what is missing."""
    for fault in ("kill:20", "enospc:20"):
        out = tmp_path / fault.replace(":", "")
        command = ("clean", several, "-o", out, *ALONE)
        assert gptctl(*command, fault=fault).code in (-signal.SIGKILL, 4)
        records = sorted((out / "work").glob("*.json"))
        kept = {path.stem: (out / "shards" / f"{path.stem}.arrow").stat().st_mtime_ns for path in records}
        assert kept
        assert gptctl(*command).code == 0
        assert {name: (out / "shards" / f"{name}.arrow").stat().st_mtime_ns for name in kept} == kept
        assert_whole(out)


@pytest.mark.slow
def test_a_killed_parent_leaves_no_workers_and_the_rerun_is_whole(
    several: Path, tmp_path: Path, gptctl: Gptctl
) -> None:
    """Also no lock."""
    process = start("clean", several, "-o", "clean", "--workers", "2", cwd=tmp_path)
    wait_for(process, lambda: list((tmp_path / "clean").glob("work/*.json")))
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert_unfinished(tmp_path / "clean")
    assert gptctl("clean", several, "-o", "clean", "--workers", "2").code == 0
    assert gptctl("clean", several, "-o", "whole", *ALONE).code == 0
    assert tree_bytes(tmp_path / "clean") == tree_bytes(tmp_path / "whole")
    assert_whole(tmp_path / "clean")


def test_a_dead_worker_is_an_error_not_a_hang(several: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """As when memory runs out and the system picks one: exit 4, how to need less, and the same command goes on."""
    process = start("clean", several, "-o", "clean", "--workers", "2", cwd=tmp_path)

    def workers() -> list[psutil.Process]:
        return [worker for server in psutil.Process(process.pid).children() for worker in server.children()]

    wait_for(process, workers)
    workers()[0].kill()
    out, err = process.communicate(timeout=60)
    expect(Ran(process.returncode, out, err.decode()), 4, "a worker process died", "--workers 1")
    assert_unfinished(tmp_path / "clean")
    assert gptctl("clean", several, "-o", "clean").code == 0
    assert gptctl("clean", several, "-o", "whole", *ALONE).code == 0
    assert tree_bytes(tmp_path / "clean") == tree_bytes(tmp_path / "whole")
