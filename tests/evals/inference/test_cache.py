"""Model outputs that are in the cache are not computed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gptctl.evals.inference import cache, cached_run
from gptctl.evals.inference.cache import Block, OutputCache
from gptctl.evals.inference.cached_run import InferenceResult, run_cached, split_blocks
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request
from tests.faults.harness import flip

REQUESTS = [Request(np.array([1, number], np.int64), 1) for number in range(20)]


class Model:
    """Returns the sum of a request's tokens, and counts the requests that it runs."""

    def __init__(self, most: int = 10**6) -> None:
        self.ran = 0
        self.most = most

    def __call__(self, blocks: Iterable[Block]) -> Iterator[Outputs]:
        for block in blocks:
            if self.ran >= self.most:
                raise KeyboardInterrupt
            self.ran += len(block)
            yield {
                "nats": [float(request.tokens.sum()) / 3 for request in block],
                "text": [str(request.num_targets) for request in block],
            }


def run(
    folder: Path | None, model: Model, name: str = "m", requests: list[Request] = REQUESTS, damaged: int = 0
) -> InferenceResult:
    warned: list[str] = []
    blocks = split_blocks(requests, 2)
    found = run_cached(blocks, {"model": name}, model, OutputCache(folder, warned.append))
    assert len(warned) == bool(damaged)
    assert all("damaged model outputs in the cache are computed again" in line for line in warned)
    assert all(line.endswith(f" and {damaged - 1} more") == (damaged > 1) for line in warned)
    return found


def test_the_second_time_nothing_runs_and_nothing_differs(tmp_path: Path) -> None:
    first, second = Model(), Model()
    one, two = run(tmp_path, first), run(tmp_path, second)
    assert (first.ran, second.ran, one.cached, two.cached) == (20, 0, 0, 20)
    assert one.outputs == two.outputs == run(None, Model()).outputs
    assert two.model_seconds == 0


def test_only_the_block_that_changed_runs_again(tmp_path: Path) -> None:
    run(tmp_path, Model())
    changed = [*REQUESTS[:9], Request(np.array([1, 99], np.int64), 1), *REQUESTS[10:]]
    model = Model()
    run(tmp_path, model, requests=changed)
    assert model.ran == 2 * cached_run.BATCHES_PER_BLOCK
    scored = [Request(request.tokens, 0) for request in REQUESTS]
    assert run(tmp_path, Model(), requests=scored).cached == 0
    assert run(tmp_path, Model(), name="n").cached == 0


def test_a_killed_run_continues(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Model(most=9))
    model = Model()
    resumed = run(tmp_path, model)
    assert model.ran == 4
    assert resumed.outputs == run(None, Model()).outputs


def swap(path: Path) -> None:
    """Put the file of another block in the place of this one."""
    path.write_bytes(next(other for other in path.parent.parent.glob("*/*") if other != path).read_bytes())


def pipe(path: Path) -> None:
    """Put a pipe in the place of a file, whose opening would wait without end."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 15), flip, swap, pipe],
    ids=["empty", "short", "flip", "swap", "pipe"],
)
def test_damaged_outputs_are_computed_again(damage: Callable[[Path], object], tmp_path: Path) -> None:
    run(tmp_path, Model())
    paths = sorted(tmp_path.glob("*/*"))
    whole = {path: path.read_bytes() for path in paths}
    for path in paths[:2]:
        damage(path)
    model = Model()
    assert run(tmp_path, model, damaged=2).outputs == run(None, Model()).outputs
    assert 0 < model.ran < 20
    assert {path: path.read_bytes() for path in paths} == whole
    assert run(tmp_path, Model()).cached == 20


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warned: list[str] = []
    unwritable = OutputCache(tmp_path / "file" / "below", warned.append)
    found = run_cached(split_blocks(REQUESTS, 2), {}, Model(), unwritable)
    assert found.outputs == run(None, Model()).outputs
    assert len(warned) == 1


def test_the_least_recently_used_are_removed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, Model())
    files = sorted(tmp_path.glob("*/*"))
    for age, path in enumerate(files):
        os.utime(path, (10**9 - age, 10**9 - age))
    monkeypatch.setattr(cache, "MAX_BYTES", sum(path.stat().st_size for path in files[:2]))
    OutputCache(tmp_path, print).evict()
    assert sorted(tmp_path.glob("*/*")) == sorted(files[:2])


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path))
    assert OutputCache.folder_of("auto") == tmp_path / "eval"
    monkeypatch.delenv("GPTCTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert OutputCache.folder_of("auto") == tmp_path / "gptctl" / "eval"
    assert (OutputCache.folder_of("none"), OutputCache.folder_of("x")) == (None, Path("x"))


def test_no_requests(tmp_path: Path) -> None:
    assert run(tmp_path, Model(), requests=[]).outputs == {}
