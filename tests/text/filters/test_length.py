"""Length bounds count characters."""

from __future__ import annotations

import pytest

from tests.text.filters.golden import reasons


def test_bounds() -> None:
    """Both bounds are inclusive and in characters, not bytes."""
    texts = ["é" * 2, "é" * 3, "é" * 5, "é" * 6, ""]
    found = reasons("length", texts, min_chars=3, max_chars=5)
    assert found == ["length.min_chars", None, None, "length.max_chars", "length.min_chars"]


@pytest.mark.parametrize(("text", "characters"), [("人工智能", 12), ("かな", 4), ("한국어", 6), ("ไทย", 3), ("“a”", 3)])
def test_characters_count_as_what_they_carry(text: str, characters: int) -> None:
    """A Chinese character counts three times, kana and Hangul twice, others once."""
    assert reasons("length", [text], min_chars=characters) == [None]
    assert reasons("length", [text], min_chars=characters + 1) == ["length.min_chars"]
