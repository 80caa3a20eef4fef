"""Drop pages made of lists, menus and repeated lines.

Penedo et al. 2024, "The FineWeb Datasets", on its additional heuristic filters, decided as datatrove 0.10.1 does
with words split by `\\w+|[^\\w\\s]+`. Lines are pieces between line feeds that are not blank; one that ends with a
blank does not end with punctuation, so texts must be normalised before.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from gptctl.core.config import Settings, key
from gptctl.text.punctuation import SENTENCE_TERMINALS
from gptctl.text.words import split_function


class Config(Settings):
    """Thresholds as in the paper."""

    min_punctuated_line_share: float = key(0.12, "Smallest share of lines that end a sentence.", ge=0, le=1)
    max_short_line_share: float = key(0.67, "Largest share of short lines.", ge=0, le=1)
    short_line_chars: int = key(30, "Longest short line, in characters.", ge=0)
    max_duplicate_line_char_share: float = key(0.01, "Largest share of characters in repeated lines.", ge=0, le=1)
    max_line_feeds_per_word: float = key(0.3, "Most line feeds for each word.", ge=0)


def reasons(text: pa.LargeStringArray, config: Config) -> pa.StringArray:
    """Say by which rule each document is dropped, the first that fails, or null where it stays."""
    split = split_function("regex")
    return pa.array([_reason(doc, config, split) for doc in text.to_pylist()], pa.string())


def _reason(text: str, config: Config, split: Callable[[str], list[str]]) -> str | None:
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "empty"
    if sum(line[-1] in SENTENCE_TERMINALS for line in lines) / len(lines) < config.min_punctuated_line_share:
        return "line_punct_ratio"
    if sum(len(line) <= config.short_line_chars for line in lines) / len(lines) > config.max_short_line_share:
        return "short_line_ratio"
    repeated = sum(map(len, lines)) - sum(map(len, set(lines)))
    if repeated / len(text.replace("\n", "")) > config.max_duplicate_line_char_share:
        return "char_dup_ratio"
    if text.count("\n") / len(split(text)) > config.max_line_feeds_per_word:
        return "list_ratio"
    return None
