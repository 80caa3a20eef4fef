"""The score above which the best share of all documents lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.text.cleaning import best_share

SCORES = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.5, np.float32(0.1), 1.0]))


@given(st.lists(SCORES, min_size=1, max_size=60), st.floats(0.001, 1))
def test_it_is_that_of_sorting(tmp_path_factory: pytest.TempPathFactory, scores: list[float], share: float) -> None:
    path = tmp_path_factory.getbasetemp() / "scores"
    path.write_bytes(np.array(scores, np.float32).tobytes())
    wanted = best_share.rank(share, len(scores))
    found = best_share.lowest_kept(path, share)
    assert found == np.sort(np.array(scores, np.float32))[-wanted]


def test_chunks_do_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).random(1000).astype(np.float32)
    (tmp_path / "scores").write_bytes(scores.tobytes())
    found = best_share.lowest_kept(tmp_path / "scores", 0.07)
    assert (scores >= found).sum() == 70
    monkeypatch.setattr(best_share, "CHUNK_SCORES", 7)
    assert best_share.lowest_kept(tmp_path / "scores", 0.07) == found


def test_no_documents_have_no_lowest_score(tmp_path: Path) -> None:
    (tmp_path / "scores").write_bytes(b"")
    assert best_share.lowest_kept(tmp_path / "scores", 0.5) == 0
