"""Drop pages made of lists, menus and repeated lines.

Penedo et al. 2024, "The FineWeb Datasets": the additional heuristic filters, with the same decisions as datatrove
0.10.1 on the same words. Lines are separated by line feeds; blank lines do not count. White space at the end of a line
is ignored. datatrove does not ignore it, so that no line of a text with "\\r\\n" ends a sentence there;
`--filter-compat datatrove` does the same.
"""

from __future__ import annotations

import numpy as np

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule


class Config(Settings):
    """The thresholds of the paper."""

    min_punctuated_line_share: float = key(0.12, "Smallest share of lines that end a sentence.", ge=0, le=1)
    max_short_line_share: float = key(0.67, "Largest share of short lines.", ge=0, le=1)
    short_line_chars: int = key(30, "Longest short line, in characters.", ge=0)
    max_duplicate_line_char_share: float = key(0.01, "Largest share of characters in repeated lines.", ge=0, le=1)
    max_line_feeds_per_word: float = key(0.3, "Largest number of line feeds per word.", ge=0)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules in datatrove's order. The first has no key: a document without a visible line is dropped."""
    short_lines = f"share of lines of at most {config.short_line_chars} characters"
    return (
        Rule("empty", "lines that are not blank", 1, drop_if="below", datatrove="empty"),
        Rule(
            "min_punctuated_line_share",
            "share of lines that end a sentence",
            config.min_punctuated_line_share,
            drop_if="below",
            datatrove="line_punct_ratio",
        ),
        Rule("max_short_line_share", short_lines, config.max_short_line_share, datatrove="short_line_ratio"),
        Rule(
            "max_duplicate_line_char_share",
            "share of characters in repeated lines",
            config.max_duplicate_line_char_share,
            datatrove="char_dup_ratio",
        ),
        Rule("max_line_feeds_per_word", "line feeds per word", config.max_line_feeds_per_word, datatrove="list_ratio"),
    )


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Measure each document's lines."""
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.line_measures import measure_web_lines

    data, offsets = buffers(batch.text)
    figures = np.empty((len(batch), 5))
    words = batch.word_counts()
    measure_web_lines(
        data, offsets, character_classes(), config.short_line_chars, batch.match_datatrove, words, figures
    )
    return FilterResult(figures)
