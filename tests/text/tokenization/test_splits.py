"""Splits depend on the key alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.text.tokenization.splits import assign


def test_shares() -> None:
    """The shares are near what was asked for, and exact at the ends."""
    keys = [str(number).encode() for number in range(20_000)]
    counts = np.bincount(assign(keys, 0.1, 0.05, "s"), minlength=3) / len(keys)
    assert abs(counts[1] - 0.1) < 0.01 and abs(counts[2] - 0.05) < 0.01
    assert set(assign(keys, 0.0, 0.0, "s").tolist()) == {0}
    assert set(assign(keys, 0.0, 1.0, "s").tolist()) == {2}


@given(st.lists(st.binary(max_size=8), min_size=1), st.lists(st.binary(max_size=8)))
@settings(deadline=None)
def test_adding_data_moves_nothing(keys: list[bytes], more: list[bytes]) -> None:
    """Old items keep their split, and equal keys go together."""
    before = assign(keys, 0.3, 0.3, "salt")
    after = assign(keys + more + keys, 0.3, 0.3, "salt")
    assert after[: len(keys)].tolist() == before.tolist() == after[len(keys) + len(more) :].tolist()


def test_salt_changes_places() -> None:
    """Two salts give independent splits."""
    keys = [str(number).encode() for number in range(1000)]
    assert assign(keys, 0.5, 0.0, "a").tolist() != assign(keys, 0.5, 0.0, "b").tolist()


def test_arrow_keys() -> None:
    """Strings and binaries are the same bytes; integers such as cluster ids work too."""
    texts = ["a", "bb", "ccc", "é"]
    expected = assign([text.encode() for text in texts], 0.4, 0.3, "s").tolist()
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        values = [text.encode() for text in texts] if "binary" in str(kind) else texts
        assert assign(pa.array(values, kind), 0.4, 0.3, "s").tolist() == expected
    assert assign(pa.array([5, -1, 5], pa.int64()), 0.4, 0.3, "s").dtype == np.uint8


def test_impossible_shares() -> None:
    """More than everything is a usage error."""
    with pytest.raises(UsageError):
        assign([b"a"], 0.8, 0.4, "s")
