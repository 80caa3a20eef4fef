"""Drop documents that are too short or too long to learn from. The default bounds are meant to be safe for any text.

A Chinese character counts as three characters, kana and Korean syllables as two. So much longer is an English text of
the same content.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule
from gptctl.text.scripts import HAN, HANGUL, KANA, count_letters


class Config(Settings):
    """Bounds of a document's length."""

    min_chars: int = key(
        20, "Shortest document kept, in characters; a Chinese one counts as 3, kana and Hangul as 2.", ge=0
    )
    max_chars: int = key(10_000_000, "Longest document kept, in characters counted likewise.", ge=1)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return both bounds."""
    return (
        Rule("min_chars", "characters", config.min_chars, drop_if="below"),
        Rule("max_chars", "characters", config.max_chars),
    )


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Count characters, each as many times as it counts."""
    characters = pc.utf8_length(batch.text).to_numpy(zero_copy_only=False).astype(np.float64)
    letters = count_letters(batch.text)
    characters += 2 * letters[:, HAN] + letters[:, KANA] + letters[:, HANGUL]
    return FilterResult(np.stack([characters, characters], axis=1))
