"""dedup killed, cut off, on a full disk and on damaged input: the same command again gives the same bytes."""

from __future__ import annotations

import io
import shutil
import signal
from pathlib import Path

import pytest

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.io.dataset import stream
from tests.conftest import Ran, read_jsonl, run_gptctl, tree_bytes
from tests.stages.deduped import (
    dedup,
    stream_of,
)


class CutError(Exception):
    """A run that is cut off."""


@pytest.mark.parametrize("method", ["minhash", "lines", "substring"])
def test_another_stream_into_what_was_cut_off(
    method: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the first stays: no runs, no shards, no tables, no results of tasks that look the same."""
    rows = read_jsonl(raw)
    shards = [rows[first : first + 300] for first in range(0, 1200, 300)]

    def piped(numbers: str) -> None:
        data = stream_of(*(shards[int(number)] for number in numbers))
        monkeypatch.setattr(stream, "standard_input", lambda: io.BytesIO(data))

    def cut(done: float, total: float | None, unit: str, note: str = "") -> None:
        if unit == "shards" and done == 3:
            raise CutError

    piped("0123")
    with pytest.raises(CutError):
        dedup(Path("-"), out=tmp_path / "out", method=method, context=Context(progress=cut))
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 3
    piped("21")  # its second task is that of the first stream, but before it stands another
    dedup(Path("-"), out=tmp_path / "whole", method=method)
    piped("21")
    dedup(Path("-"), out=tmp_path / "out", method=method)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "workers"),
    [("", "1"), ("", "2"), *((more, "1") for more in ("--method exact", "--method lines", "--method substring")),
     ("--index datasketch", "1")],
)  # fmt: skip
def test_killed_anywhere_and_run_again(more: str, workers: str, raw: Path, tmp_path: Path) -> None:
    """At the nth file operation of any process, until a run is not killed: the same bytes, and nothing else."""
    command = ("dedup", raw, *more.split(), "--workers", workers, "-o")
    assert run_gptctl(*command, "whole", cwd=tmp_path).code == 0
    whole = tree_bytes(tmp_path / "whole")
    for operation in (*range(3, 43, 8), *range(43, 500, 40)):
        killed = run_gptctl(*command, "cut", cwd=tmp_path, fault=f"kill:{operation}")
        if killed.code == 0:
            assert tree_bytes(tmp_path / "cut") == whole
            break
        assert killed.code == -signal.SIGKILL or (workers == "2" and killed.code == 4), killed.err
        done = run_gptctl(*command, "cut", cwd=tmp_path)
        assert done.code == 0, done.err
        assert tree_bytes(tmp_path / "cut") == whole, operation
        shutil.rmtree(tmp_path / "cut")
    assert operation > 18
    assert killed.code == 0


@pytest.mark.slow
def test_killed_again_and_again(raw: Path, unique: tuple[Path, Ran], tmp_path: Path) -> None:
    """Each time a little later, over what the runs before have left."""
    command = ("dedup", raw, "-o", "out", "--workers", "2")
    for operation in range(5, 200, 9):
        done = run_gptctl(*command, cwd=tmp_path, fault=f"kill:{operation}")
        if done.code == 0:
            break
    assert done.code == 0
    assert tree_bytes(tmp_path / "out") == tree_bytes(unique[0])


@pytest.mark.slow
def test_a_full_disk(raw: Path, unique: tuple[Path, Ran], tmp_path: Path) -> None:
    """Is said in two lines; with space, the same command goes on."""
    for operation in range(6, 90, 20):
        command = ("dedup", raw, "-o", f"out{operation}", "--workers", "1")
        done = run_gptctl(*command, cwd=tmp_path, fault=f"enospc:{operation}")
        assert (done.code, len(done.error_lines), "disk full" in done.err) == (4, 2, True), done.err
        assert run_gptctl(*command, cwd=tmp_path).code == 0
        assert tree_bytes(tmp_path / f"out{operation}") == tree_bytes(unique[0])


def test_a_damaged_shard(unique: tuple[Path, Ran], tmp_path: Path) -> None:
    """Of the input, or of what was there before."""
    shutil.copytree(unique[0], tmp_path / "bad")
    shard = tmp_path / "bad" / "shards" / "part-00001.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"part-00001\.arrow"):
        dedup(tmp_path / "bad", out=tmp_path / "out")
    with pytest.raises(DataError, match=r"part-00001\.arrow"):
        dedup(unique[0], out=tmp_path / "other", against=(str(tmp_path / "bad"),))


@pytest.mark.slow
def test_a_power_cut_costs_time_only(raw: Path, tmp_path: Path) -> None:
    """What was not flushed may be cut short, empty or gone once the machine starts anew: it is made again."""
    command = ("dedup", raw, "--workers", "1", "-o")
    assert run_gptctl(*command, "whole", cwd=tmp_path).code == 0
    for operation in (40, 75):
        out = tmp_path / f"out{operation}"
        assert run_gptctl(*command, out, cwd=tmp_path, fault=f"kill:{operation}").code == -signal.SIGKILL
        (scratch,) = (out / "work").glob("scratch-*")
        scratch = scratch.rename(scratch.with_name("scratch-of-another-start"))
        runs = [path for path in scratch.rglob("*") if path.is_file()]
        records = sorted((out / "work").glob("*.json"))
        assert runs
        for number, path in enumerate([*runs, *records]):
            path.write_bytes(path.read_bytes()[: (0, 7)[number % 2]])
        for path in sorted((out / "shards").glob("*"))[-1:]:
            path.unlink()
        done = run_gptctl(*command, out, cwd=tmp_path)
        assert done.code == 0, done.err
        assert tree_bytes(out) == tree_bytes(tmp_path / "whole")
