"""Operations on sorted arrays."""

from __future__ import annotations

import numpy as np

from gptctl.text.dedup.sorted_arrays import is_in_sorted, run_starts


def test_is_in_sorted() -> None:
    """Values are found in a sorted array, and none in an empty one."""
    values = np.array([0, 5, 9, 7], np.uint64)
    assert is_in_sorted(values, np.array([5, 7], np.uint64)).tolist() == [False, True, False, True]
    assert not is_in_sorted(values, np.empty(0, np.uint64)).any()


def test_run_starts() -> None:
    """The first of each run of equal values is marked."""
    assert run_starts(np.array([3, 3, 4, 9, 9], np.uint64)).tolist() == [True, False, True, True, False]
    assert run_starts(np.empty(0, np.uint64)).tolist() == []
