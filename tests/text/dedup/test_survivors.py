"""Ranks by each policy, and one document of each cluster."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gptctl.core.errors import DataError
from gptctl.text.dedup.clusters import choose, connect
from gptctl.text.dedup.survivors import parse, ranks

TABLE = pa.table(
    {
        "text": pa.array(["aa", "a", "aaa"], pa.large_string()),
        "source": ["web", "books", "other"],
        "score": [0.5, None, 2.0],
        "name": ["x", "y", "z"],
    }
)


@pytest.mark.parametrize(
    ("policy", "order"),
    [("first", [0, 1, 2]), ("longest", [2, 0, 1]), ("highest:score", [2, 0, 1]), ("priority:books,web", [1, 0, 2])],
)
def test_order_of_survivors(policy: str, order: list[int]) -> None:
    """The lowest rank comes first; equals stay in the input's order."""
    assert np.argsort(ranks(policy, TABLE), kind="stable").tolist() == order


def test_what_cannot_be_ranked() -> None:
    """Unknown policies and columns are named."""
    with pytest.raises(ValueError, match="did you mean 'longest'"):
        parse("longst")
    for policy in ("highest", "priority:", "first:x"):
        with pytest.raises(ValueError, match="known"):
            parse(policy)
    with pytest.raises(DataError, match="no column 'quality'"):
        ranks("highest:quality", TABLE)
    with pytest.raises(DataError, match="holds no numbers"):
        ranks("highest:name", TABLE)


def test_clusters_from_pairs_in_any_parts() -> None:
    """Pairs may come in any order and any parts; the first document names the cluster."""
    pairs = np.array([[2, 1], [9, 7], [3, 2], [20, 9], [5, 4]], np.uint64)
    rank = {1: 0.0, 2: -1.0, 3: -1.0, 7: 0.0, 9: 0.0, 20: 0.0, 4: 5.0, 5: 1.0}
    for parts in ([pairs], [pairs[:2], pairs[2:]], [pairs[i : i + 1] for i in (4, 3, 2, 1, 0)]):
        nodes, labels = connect(((part[:, 0], part[:, 1]) for part in parts), 2**20)
        survivor = choose(nodes, labels, np.array([rank[node] for node in nodes.tolist()]))
        assert nodes.tolist() == [1, 2, 3, 4, 5, 7, 9, 20]
        assert labels.tolist() == [1, 1, 1, 4, 4, 7, 7, 7]
        assert survivor.tolist() == [2, 2, 2, 5, 5, 7, 7, 7]
