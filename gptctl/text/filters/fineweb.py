"""Drop pages made of lists, menus and repeated lines.

Penedo et al. 2024, "The FineWeb Datasets", on its additional heuristic filters, decided as datatrove 0.10.1 does on the
same words. Lines are pieces between line feeds that are not blank. White space at a line's end is passed over;
datatrove counts it, so there no line of a text with "\\r\\n" ends a sentence (`--filter-compat datatrove`).
"""

from __future__ import annotations

import numpy as np

from gptctl.core.config import Settings, key
from gptctl.text.cleaning.batch import Batch, Measured, Rule


class Config(Settings):
    """Thresholds as in the paper."""

    min_punctuated_line_share: float = key(0.12, "Smallest share of lines that end a sentence.", ge=0, le=1)
    max_short_line_share: float = key(0.67, "Largest share of short lines.", ge=0, le=1)
    short_line_chars: int = key(30, "Longest short line, in characters.", ge=0)
    max_duplicate_line_char_share: float = key(0.01, "Largest share of characters in repeated lines.", ge=0, le=1)
    max_line_feeds_per_word: float = key(0.3, "Most line feeds for each word.", ge=0)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules in datatrove's order, with its names."""
    punctuated = "share of lines that end a sentence"
    return (
        Rule("empty", "lines that are not blank", 1, above=False),
        Rule("line_punct_ratio", punctuated, config.min_punctuated_line_share, above=False),
        Rule(
            "short_line_ratio", f"share of lines of {config.short_line_chars} characters", config.max_short_line_share
        ),
        Rule("char_dup_ratio", "share of characters in repeated lines", config.max_duplicate_line_char_share),
        Rule("list_ratio", "line feeds for each word", config.max_line_feeds_per_word),
    )


def measure(batch: Batch, config: Config) -> Measured:
    """Measure each document's lines."""
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.lines import measure_web_lines

    data, offsets = buffers(batch.text)
    figures = np.empty((len(batch), 5))
    words = batch.word_counts()
    measure_web_lines(data, offsets, kinds(), config.short_line_chars, batch.compat, words, figures)
    return Measured(figures)
