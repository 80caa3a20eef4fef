"""Edges between equal keys, and the groups they make."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.text.dedup.components import components
from gptctl.text.dedup.passes import stars


def test_stars() -> None:
    """Each document is paired with the smallest that has its key, once."""
    keys = np.array([1, 2, 1, 1, 9, 8, 8, 9], np.uint64)
    where = np.array([40, 30, 20, 10, 40, 30, 20, 10], np.uint64)
    leaves, centres = stars(keys, where)
    assert list(zip(leaves.tolist(), centres.tolist(), strict=True)) == [(20, 10), (30, 20), (40, 10)]
    assert len(stars(np.empty(0, np.uint64), np.empty(0, np.uint64))[0]) == 0


def test_components() -> None:
    """Chains join; the label is the smallest member."""
    edges = np.array([[4, 3], [3, 1], [5, 2]], np.int64)
    assert components(6, edges).tolist() == [0, 1, 2, 1, 1, 2]
    assert components(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=15), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_edges_does_not_matter(pairs: list[tuple[int, int]], random: object) -> None:
    """Shuffled and turned edges give the same labels, which are those of a naive search."""
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    labels = components(10, edges)
    shuffled = pairs[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert components(10, np.array(shuffled, np.int64).reshape(-1, 2)[:, ::-1]).tolist() == labels.tolist()
    naive = list(range(10))
    for _ in pairs:
        for left, right in pairs:
            naive[left] = naive[right] = min(naive[left], naive[right])
    assert labels.tolist() == naive
