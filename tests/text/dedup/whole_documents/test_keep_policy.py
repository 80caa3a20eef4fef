"""Ranks by each policy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gptctl.core.errors import DataError
from gptctl.text.dedup.whole_documents.keep_policy import parse, ranks

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


def test_empty_cells_of_a_csv_file_rank_last() -> None:
    table = TABLE.append_column("cell", pa.array(["0.5", " ", "-2"])).append_column("none", pa.array(["", "1", None]))
    assert ranks("highest:cell", table).tolist() == [-0.5, np.inf, 2.0]
    assert ranks("highest:none", table).tolist() == [np.inf, -1.0, np.inf]


def test_what_cannot_be_ranked() -> None:
    """Unknown policies and columns are named."""
    with pytest.raises(ValueError, match="did you mean 'longest'"):
        parse("longst")
    for policy in ("highest", "priority:", "first:x"):
        with pytest.raises(ValueError, match="known"):
            parse(policy)
    with pytest.raises(DataError, match="no column 'quality'"):
        ranks("highest:quality", TABLE)
    with pytest.raises(DataError, match="does not hold numbers"):
        ranks("highest:name", TABLE)
