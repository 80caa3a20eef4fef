"""Drop documents that are too short or too long to learn from. The bounds are ours, meant to be safe for any text."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.config import Settings, key


class Config(Settings):
    """Bounds of a document's length."""

    min_chars: int = key(20, "Shortest document kept, in characters.", ge=0)
    max_chars: int = key(10_000_000, "Longest document kept, in characters.", ge=1)


def reasons(text: pa.LargeStringArray, config: Config) -> pa.StringArray:
    """Say why each document is dropped, "too_short" or "too_long"; null where it stays."""
    chars = pc.utf8_length(text)
    outside = pc.make_struct(pc.less(chars, config.min_chars), pc.greater(chars, config.max_chars))
    return pc.case_when(outside, pa.scalar("too_short"), pa.scalar("too_long"))
