"""Answers that were already given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gptctl.evals.inference import cache
from gptctl.evals.inference.cache import Block
from gptctl.evals.inference.loaded_model import Answers
from gptctl.infer.score import Request

PIECES = [Request(np.array([1, number], np.int64), 1) for number in range(20)]


class Model:
    """Answers with the sum of a piece's tokens, and counts what it is asked."""

    def __init__(self, most: int = 10**6) -> None:
        self.asked = 0
        self.most = most

    def __call__(self, blocks: Iterable[Block]) -> Iterator[Answers]:
        for block in blocks:
            if self.asked >= self.most:
                raise KeyboardInterrupt
            self.asked += len(block)
            yield {
                "nats": [float(piece.tokens.sum()) / 3 for piece in block],
                "text": [str(p.num_targets) for p in block],
            }


def ask(folder: Path | None, model: Model, asker: str = "m", pieces: list[Request] = PIECES) -> cache.Asking:
    warned: list[str] = []
    found = cache.answer_all(pieces, 2, {"model": asker}, model, folder, warned.append)
    assert not warned
    return found


def test_the_second_time_nothing_is_asked_and_nothing_differs(tmp_path: Path) -> None:
    first, second = Model(), Model()
    one, two = ask(tmp_path, first), ask(tmp_path, second)
    assert (first.asked, second.asked, one.cached, two.cached) == (20, 0, 0, 20)
    assert one.answers == two.answers == ask(None, Model()).answers
    assert two.model_seconds == 0


def test_only_the_block_that_changed_is_asked_again(tmp_path: Path) -> None:
    ask(tmp_path, Model())
    changed = [*PIECES[:9], Request(np.array([1, 99], np.int64), 1), *PIECES[10:]]
    model = Model()
    ask(tmp_path, model, pieces=changed)
    assert model.asked == 2 * cache.BATCHES_PER_BLOCK
    scored = [Request(piece.tokens, 0) for piece in PIECES]
    assert ask(tmp_path, Model(), pieces=scored).cached == 0
    assert ask(tmp_path, Model(), asker="n").cached == 0


def test_what_was_killed_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, Model(most=9))
    model = Model()
    resumed = ask(tmp_path, model)
    assert model.asked == 4
    assert resumed.answers == ask(None, Model()).answers


@pytest.mark.parametrize("damage", [b"", b"x" * 15, b"x" * 4000])
def test_damaged_answers_are_asked_again(damage: bytes, tmp_path: Path) -> None:
    ask(tmp_path, Model())
    path = sorted(tmp_path.glob("*/*"))[0]
    whole = path.read_bytes()
    path.write_bytes(damage)
    model = Model()
    assert ask(tmp_path, model).answers == ask(None, Model()).answers
    assert 0 < model.asked < 20
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert ask(tmp_path, Model()).cached < 20


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warned: list[str] = []
    found = cache.answer_all(PIECES, 2, {}, Model(), tmp_path / "file" / "below", warned.append)
    assert found.answers == ask(None, Model()).answers
    assert len(warned) == 1


def test_the_longest_unused_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    ask(tmp_path, Model())
    files = sorted(tmp_path.glob("*/*"))
    for age, path in enumerate(files):
        os.utime(path, (10**9 - age, 10**9 - age))
    monkeypatch.setattr(cache, "MAX_BYTES", sum(path.stat().st_size for path in files[:2]))
    cache.make_room(tmp_path)
    assert sorted(tmp_path.glob("*/*")) == sorted(files[:2])


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path))
    assert cache.folder_of("auto") == tmp_path / "eval"
    monkeypatch.delenv("GPTCTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder_of("auto") == tmp_path / "gptctl" / "eval"
    assert (cache.folder_of("none"), cache.folder_of("x")) == (None, Path("x"))


def test_no_pieces(tmp_path: Path) -> None:
    assert ask(tmp_path, Model(), pieces=[]).answers == {}
