"""Exact keys are xxh3-128 of the text's bytes; normalised ones are those of its words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.text.dedup.exact import keys, normalized_keys
from tests.text.dedup import plain
from tests.text.filters.golden import texts as real_texts


@given(st.lists(st.text(max_size=20)), st.integers(0, 3))
@settings(deadline=None)
def test_equals_xxhash(texts: list[str], skip: int) -> None:
    """Each key is the hash of that document, in slices too."""
    result = keys(pa.array(texts, pa.large_string()).slice(skip))
    expected = [xxhash.xxh3_128_intdigest(text.encode()) for text in texts[skip:]]
    assert [int(high) << 64 | int(low) for high, low in result] == expected
    assert result.shape == (len(expected), 2)


def test_same_words() -> None:
    """Case, punctuation and white space do not matter; words, their order and their bounds do."""
    same = ["Hello, World!", "hello world", "\n HELLO -- world..."]
    other = ["hello worlds", "world hello", "helloworld", "hello wor ld", "hello", "hello world hello world"]
    found = normalized_keys(pa.array([*same, *other, "", "...", None], pa.large_string()))
    assert (found[:3] == found[0]).all() and (found[-3] == found[-1]).all()
    for half in found.T:
        assert len(np.unique(half)) == len(other) + 3
    assert normalized_keys(pa.array([], pa.large_string())).shape == (0, 2)


@given(plain.columns)
@settings(deadline=None, max_examples=plain.EXAMPLES)
def test_equal_if_words_are(text: pa.LargeStringArray) -> None:
    """Either half is equal for equal words, and only for them; without words, for equal texts."""
    text = text[1:]
    words = [plain.words(document or "") or document or "" for document in text.to_pylist()]
    expected = [[a == b for a in words] for b in words]
    for half in normalized_keys(text).T:
        assert (half[:, None] == half).tolist() == expected


def test_real_documents() -> None:
    """Shouted and spaced out, each of 300 documents has its key, and no other's."""
    texts = real_texts()[:300].to_pylist()
    loud = [" ".join("".join(c.upper() if c.isascii() else c for c in text).split(" ")) + " ..." for text in texts]
    found = normalized_keys(pa.array(texts, pa.large_string()))
    assert np.array_equal(found, normalized_keys(pa.array(loud, pa.large_string())))
    assert len(np.unique(found[:, 0])) == len({tuple(plain.words(text)) for text in texts})
