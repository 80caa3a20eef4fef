"""The passes of a search, one by one: who is paired with whom, and what counts as equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from gptctl.pipeline.sorted_runs import SortedRuns
from gptctl.text.dedup import passes
from gptctl.text.dedup.passes import Search, is_in, stars
from gptctl.text.dedup.shingles import Shingling
from tests.text.dedup import plain


def search(folder: Path, near: bool = True, verify: bool = True) -> Search:
    return Search(folder, near, False, Shingling(), 0.8, 16, (4, 4), 0, verify)


def table(*texts: str) -> pa.Table:
    return pa.table({"id": [f"d{n}" for n in range(len(texts))], "text": pa.array(texts, pa.large_string())})


def test_stars() -> None:
    """Each document is paired with the smallest that has its key, once: a star, never all pairs."""
    keys = np.array([1, 2, 1, 1, 9, 8, 8, 9], np.uint64)
    where = np.array([40, 30, 20, 10, 40, 30, 20, 10], np.uint64)
    leaves, centres = stars(keys, where)
    assert list(zip(leaves.tolist(), centres.tolist(), strict=True)) == [(20, 10), (30, 20), (40, 10)]
    assert len(stars(np.empty(0, np.uint64), np.empty(0, np.uint64))[0]) == 0
    many = np.arange(5000, dtype=np.uint64)
    leaves, centres = stars(np.zeros(5000, np.uint64), many)
    assert len(leaves) == 4999 and not centres.any()


def test_is_in() -> None:
    """Whether values stand in a sorted array."""
    values = np.array([0, 5, 9, 7], np.uint64)
    assert is_in(values, np.array([5, 7], np.uint64)).tolist() == [False, True, False, True]
    assert not is_in(values, np.empty(0, np.uint64)).any()


def test_chance_does_not_make_exact_copies(tmp_path: Path) -> None:
    """What shares the 64 bits that documents are sorted by is compared by all 128 bits, also by the method exact."""
    pairs = SortedRuns(tmp_path / "pairs")
    for number, near in enumerate((False, True)):
        how = search(tmp_path / str(near), near, verify=False)
        for task, texts in enumerate([("one", "two"), ("two", "three")]):
            passes.sign(how, task, table(*texts), np.zeros(2))
        leaves, centres = np.array([1 << 40, 1 << 40], np.uint64), np.array([0, 1], np.uint64)
        pairs.write(0, {"leaf": leaves, "centre": centres})
        found = passes.compare(how, pairs, 2**20, (0, 2**64))
        assert found["centre"].to_pylist() == [0, 1]
        similarity = found["similarity"].to_pylist()
        assert similarity[1] == 1.0
        assert similarity[0] == 0.0 if not near else np.isnan(similarity[0]), number


def test_compared_in_any_steps(tmp_path: Path) -> None:
    """Text is compared in steps that fit the memory; how large they are is not seen."""
    how = search(tmp_path)
    words = [f"word{n}" for n in range(60)]
    texts = [" ".join([*words[:k], "other", *words[k + 1 :]]) for k in range(0, 60, 3)]
    passes.sign(how, 0, table(*texts), np.zeros(20))
    passes.collect(how, 0, np.arange(20), table(*texts))
    pairs = SortedRuns(tmp_path / "pairs")
    leaves = np.arange(1, 20, dtype=np.uint64)
    pairs.write(0, {"leaf": leaves, "centre": leaves * np.uint64(0)})
    pairs.write(1, {"leaf": leaves, "centre": leaves * np.uint64(0)})
    whole = passes.compare(how, pairs, 2**30, (0, 2**64))
    assert len(whole) == 19
    assert whole.equals(passes.compare(how, pairs, 1, (0, 2**64)))
    assert whole["similarity"].to_pylist() == [plain.jaccard(texts[0], text, how.how) for text in texts[1:]]
    halves = [passes.compare(how, pairs, 500, part) for part in ((0, 7), (7, 2**64))]
    assert pa.concat_tables(halves).equals(whole)
