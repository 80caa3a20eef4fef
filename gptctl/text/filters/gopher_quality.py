"""Drop documents that do not look like prose.

Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A1.1, "Quality
filtering", with the same decisions as datatrove 0.10.1 on the same words. What the paper does not define:

- The number of words and their mean length ignore words that are punctuation only; all other shares are of all words.
- Lines are those of `str.splitlines`. A bullet is "•" or "-", also after white space.
- Each stop word counts once, and only in lower case: "The" is not counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule


class Config(Settings):
    """Bounds of what counts as prose."""

    min_words: int = key(50, "Fewest words kept, punctuation not counted.", ge=0)
    max_words: int = key(100_000, "Most words kept, punctuation not counted.", ge=1)
    min_mean_word_chars: float = key(3, "Smallest mean length of the words, in characters.", ge=0)
    max_mean_word_chars: float = key(10, "Largest mean length of the words, in characters.", ge=0)
    max_hashes_per_word: float = key(0.1, "Largest number of number signs (#) per word.", ge=0)
    max_ellipses_per_word: float = key(0.1, "Largest number of ellipses per word.", ge=0)
    max_bullet_line_share: float = key(0.9, "Largest share of lines that start with a bullet.", ge=0, le=1)
    max_ellipsis_line_share: float = key(0.3, "Largest share of lines that end with an ellipsis.", ge=0, le=1)
    min_alpha_word_share: float = key(0.8, "Smallest share of words with a letter.", ge=0, le=1)
    min_stop_words: int = key(2, "Fewest different stop words.", ge=0)
    stop_words: tuple[str, ...] = key(
        ("the", "be", "to", "of", "and", "that", "have", "with"),
        "Common words of the language, some of which are in every text.",
    )


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules in datatrove's order."""
    words, mean_length = "words that are not punctuation", "their mean length in characters"
    hashes, ellipses = "number signs per word", "ellipses per word"
    bullets, end_ellipses = "share of lines with a bullet", "share of lines that end in an ellipsis"
    alpha_words, stop_words = "share of words with a letter", "different stop words"
    return (
        Rule("min_words", words, config.min_words, "below", "gopher_short_doc"),
        Rule("max_words", words, config.max_words, "above", "gopher_long_doc"),
        Rule("min_mean_word_chars", mean_length, config.min_mean_word_chars, "below", "gopher_below_avg_threshold"),
        Rule("max_mean_word_chars", mean_length, config.max_mean_word_chars, "above", "gopher_above_avg_threshold"),
        Rule("max_hashes_per_word", hashes, config.max_hashes_per_word, "above", "gopher_too_many_hashes"),
        Rule("max_ellipses_per_word", ellipses, config.max_ellipses_per_word, "above", "gopher_too_many_ellipsis"),
        Rule("max_bullet_line_share", bullets, config.max_bullet_line_share, "above", "gopher_too_many_bullets"),
        Rule(
            "max_ellipsis_line_share",
            end_ellipses,
            config.max_ellipsis_line_share,
            "above",
            "gopher_too_many_end_ellipsis",
        ),
        Rule("min_alpha_word_share", alpha_words, config.min_alpha_word_share, "below", "gopher_below_alpha_threshold"),
        Rule("min_stop_words", stop_words, config.min_stop_words, "below", "gopher_enough_stop_words"),
    )


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Measure each document's words and lines."""
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.line_measures import measure_marks
    from gptctl.text.kernels.words import ALL_PUNCTUATION, HAS_LETTER, count_stop_words

    words, (lengths, traits) = batch.words, batch.words.traits
    not_punctuation = (traits & ALL_PUNCTUATION) == 0

    def sums(values: NDArray[np.generic]) -> NDArray[np.int64]:
        total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return np.asarray(total[words.last] - total[words.first])

    count = sums(not_punctuation)
    mean = sums(lengths * not_punctuation) / np.maximum(count, 1)
    all_words = np.maximum(words.counts(), 1)
    data, offsets = buffers(batch.text)
    marks = np.empty((len(batch), 5), np.int64)
    measure_marks(data, offsets, character_classes(), marks)
    hashes, ellipses, lines, bullet_lines, ellipsis_lines = marks.T
    lines = np.maximum(lines, 1)
    stop_words = [word.encode() for word in dict.fromkeys(config.stop_words)]
    found = np.empty(len(batch), np.int64)
    bounds = np.cumsum([0, *map(len, stop_words)])
    stop_bytes = np.frombuffer(b"".join(stop_words) or b"\0", np.uint8)
    count_stop_words(words.data, words.starts, words.first, words.last, stop_bytes, bounds, found)
    alpha_share = sums((traits & HAS_LETTER) != 0) / all_words
    mark_shares = (hashes / all_words, ellipses / all_words, bullet_lines / lines, ellipsis_lines / lines)
    columns = (count, count, mean, mean, *mark_shares, alpha_share, found)
    return FilterResult(np.stack([np.asarray(column, np.float64) for column in columns], axis=1))
