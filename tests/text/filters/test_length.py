"""Length bounds count characters."""

from __future__ import annotations

import pyarrow as pa

from gptctl.text.filters.length import Config, reasons


def test_bounds() -> None:
    """Both bounds are inclusive and in characters, not bytes."""
    texts = pa.array(["é" * 2, "é" * 3, "é" * 5, "é" * 6, ""], pa.large_string())
    result = reasons(texts, Config(min_chars=3, max_chars=5))
    assert result.to_pylist() == ["too_short", None, None, "too_long", "too_short"]
    assert result.type == pa.string()
