"""Length bounds count characters."""

from __future__ import annotations

from tests.text.filters.golden import reasons


def test_bounds() -> None:
    """Both bounds are inclusive and in characters, not bytes."""
    texts = ["é" * 2, "é" * 3, "é" * 5, "é" * 6, ""]
    found = reasons("length", texts, min_chars=3, max_chars=5)
    assert found == ["length.min_chars", None, None, "length.max_chars", "length.min_chars"]
