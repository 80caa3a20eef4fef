"""Exact similarity of pairs: what counts as equal, and any order of the work gives the same result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from gptctl.pipeline.sorted_runs import SortedRuns
from gptctl.text.dedup.minhash import Banding
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.signatures import write_keys
from gptctl.text.dedup.whole_documents.verification import VerifyPairs, write_shingles
from gptctl.text.dedup.whole_documents.workspace import Workspace
from tests.text.dedup import plain

EVERYTHING = (0, 2**64)


def criteria(near_duplicates: bool = True, verify: bool = True) -> Criteria:
    return Criteria(
        near_duplicates=near_duplicates, normalize_exact=False, shingling=Shingling(), threshold=0.8, num_perm=16,
        banding=Banding(4, 4), seed=0, verify=verify,
    )  # fmt: skip


def table(*texts: str) -> pa.Table:
    return pa.table({"id": [f"d{n}" for n in range(len(texts))], "text": pa.array(texts, pa.large_string())})


def write_pairs(runs: SortedRuns, left: NDArray[np.uint64], right: NDArray[np.uint64], times: int = 1) -> None:
    for number in range(times):
        runs.write(number, {"left": left, "right": right})


@pytest.mark.parametrize("near_duplicates", [False, True])
def test_equal_keys_do_not_make_exact_copies(near_duplicates: bool, tmp_path: Path) -> None:
    """Documents that share the 64 bits they are sorted by are compared by all 128 bits, also by the method exact."""
    workspace, how = Workspace(tmp_path / "work"), criteria(near_duplicates, verify=False)
    for task, texts in enumerate([("one", "two"), ("two", "three")]):
        write_keys(how, workspace, task, table(*texts), {})
    pairs = SortedRuns(tmp_path / "pairs")
    write_pairs(pairs, np.array([1 << 40, 1 << 40], np.uint64), np.array([0, 1], np.uint64))
    found = VerifyPairs(how, workspace, pairs, 2**20)(EVERYTHING)
    assert found.right.tolist() == [0, 1]
    assert found.similarity[1] == 1.0
    assert np.isnan(found.similarity[0]) if near_duplicates else found.similarity[0] == 0.0


def test_any_steps_give_the_same(tmp_path: Path) -> None:
    """Text is compared in steps that fit the memory. Their size does not change the result."""
    workspace, how = Workspace(tmp_path / "work"), criteria()
    words = [f"word{n}" for n in range(60)]
    texts = [" ".join([*words[:k], "other", *words[k + 1 :]]) for k in range(0, 60, 3)]
    write_keys(how, workspace, 0, table(*texts), {})
    write_shingles(how, workspace, 0, np.arange(20), table(*texts))
    pairs = SortedRuns(tmp_path / "pairs")
    left = np.arange(1, 20, dtype=np.uint64)
    write_pairs(pairs, left, left * np.uint64(0), times=2)
    whole = VerifyPairs(how, workspace, pairs, 2**30)(EVERYTHING)
    assert whole.similarity.tolist() == [plain.jaccard(texts[0], text, how.shingling) for text in texts[1:]]
    in_steps = VerifyPairs(how, workspace, pairs, 1)(EVERYTHING)
    halves = [VerifyPairs(how, workspace, pairs, 500)(part) for part in ((0, 7), (7, 2**64))]
    joined = [np.concatenate(columns) for columns in zip(*halves, strict=True)]
    for expected, one, other in zip(whole, in_steps, joined, strict=True):
        assert len(expected) == 19
        assert one.tolist() == other.tolist() == expected.tolist()
