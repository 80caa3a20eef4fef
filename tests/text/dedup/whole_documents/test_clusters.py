"""Clusters are the connected components of pairs, which are read in parts and in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import MachineError
from gptctl.text.dedup.whole_documents.clusters import BYTES_PER_PAIR, Clusters, components, connect


def test_components() -> None:
    """Chains join; the label is the smallest member."""
    assert components(6, np.array([4, 3, 5]), np.array([3, 1, 2])).tolist() == [0, 1, 2, 1, 1, 2]
    assert components(3, np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == [0, 1, 2]


def naive(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """The smallest member of each one's component, by brute force."""
    label = {one: one for pair in pairs for one in pair}
    for _ in pairs:
        for left, right in pairs:
            label[left] = label[right] = min(label[left], label[right])
    return label


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=25),
    st.lists(st.integers(0, 25), max_size=6),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_any_order_in_any_parts(pairs: list[tuple[int, int]], cuts: list[int], random: object) -> None:
    """Shuffled, turned and cut up, pairs give the same labels, which are those of a naive search."""
    expected = naive(pairs)
    random.shuffle(pairs)  # type: ignore[attr-defined]
    table = np.array(pairs, np.uint64).reshape(-1, 2)[:, ::-1]
    nodes, labels = connect(((part[:, 0], part[:, 1]) for part in np.split(table, sorted(cuts))), 21, 2**20)
    assert dict(zip(nodes.tolist(), labels.tolist(), strict=True)) == expected
    assert nodes.tolist() == sorted(expected)


def test_parts_need_memory_for_documents_only() -> None:
    """The same pairs again and again need no more; pairs of ever more documents do, and the hint says what suffices."""
    leaves = np.arange(1, 1001, dtype=np.uint64)
    part = (leaves, np.zeros(1000, np.uint64))
    memory = 3 * BYTES_PER_PAIR * 1000
    assert connect([part] * 50, 1001, memory)[1].tolist() == [0] * 1001
    growing = [(leaves + np.uint64(1000 * number), leaves * np.uint64(0)) for number in range(50)]
    with pytest.raises(MachineError, match="more duplicates than --max-memory holds") as caught:
        connect(growing, 50_001, memory)
    assert caught.value.exit_code == 4 and caught.value.hint is not None
    assert caught.value.hint.startswith("try for example --max-memory 1MB; ")
    enough = int(caught.value.hint.rpartition(" ")[2].removesuffix("MB")) * 10**6
    assert enough == 8 * 10**6
    for tight in (enough, BYTES_PER_PAIR * 50_001 * 4 // 3 + BYTES_PER_PAIR):
        assert connect(growing, 50_001, tight)[1].tolist() == [0] * 50_001


def test_sizes_of_clusters_in_the_input() -> None:
    """Documents of --against count, but no cluster is named after one; clusters of these only do not count."""
    docs = np.array([1, 2, 3, 10, 11, 12, 13, 14], np.uint64)
    first = np.array([1, 1, 3, 3, 3, 12, 12, 14], np.uint64)
    found = Clusters(docs, first, first, np.ones(8))
    heads, counts = found.sizes(10)
    assert (heads.tolist(), counts.tolist()) == ([10, 12], [3, 2])
    heads, counts = found.sizes(0)
    assert (heads.tolist(), counts.tolist()) == ([1, 3, 12], [2, 3, 2])
    none = np.empty(0, np.uint64)
    assert len(Clusters(none, none, none, np.empty(0)).sizes(0)[0]) == 0
