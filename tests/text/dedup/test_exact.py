"""Exact keys are xxh3-128 of the text's bytes."""

from __future__ import annotations

import pyarrow as pa
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.text.dedup.exact import keys


@given(st.lists(st.text(max_size=20)), st.integers(0, 3))
@settings(deadline=None)
def test_equals_xxhash(texts: list[str], skip: int) -> None:
    """Each key is the hash of that document, in slices too."""
    result = keys(pa.array(texts, pa.large_string()).slice(skip))
    expected = [xxhash.xxh3_128_intdigest(text.encode()) for text in texts[skip:]]
    assert [int(high) << 64 | int(low) for high, low in result] == expected
    assert result.shape == (len(expected), 2)
