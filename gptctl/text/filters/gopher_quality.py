"""Drop documents that do not look like prose.

Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A1.1, "Quality
filtering", decided as datatrove 0.10.1 does on the same words. What the paper leaves open:

- the number of words and their mean length leave out words of punctuation only; all other shares are of all words;
- lines are those of `str.splitlines`; a bullet is "•" or "-" after blanks;
- stop words are distinct and lower case: "The" is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gptctl.core.config import Settings, key
from gptctl.text.cleaning.batch import Batch, Measured, Rule


class Config(Settings):
    """Bounds of what counts as prose."""

    min_words: int = key(50, "Fewest words kept, punctuation not counted.", ge=0)
    max_words: int = key(100_000, "Most words kept, punctuation not counted.", ge=1)
    min_mean_word_chars: float = key(3, "Shortest mean word kept, in characters.", ge=0)
    max_mean_word_chars: float = key(10, "Longest mean word kept, in characters.", ge=0)
    max_hashes_per_word: float = key(0.1, "Most number signs for each word.", ge=0)
    max_ellipses_per_word: float = key(0.1, "Most ellipses for each word.", ge=0)
    max_bullet_line_share: float = key(0.9, "Largest share of lines that start with a bullet.", ge=0, le=1)
    max_ellipsis_line_share: float = key(0.3, "Largest share of lines that end with an ellipsis.", ge=0, le=1)
    min_alpha_word_share: float = key(0.8, "Smallest share of words with a letter.", ge=0, le=1)
    min_stop_words: int = key(2, "Fewest different stop words.", ge=0)
    stop_words: tuple[str, ...] = key(
        ("the", "be", "to", "of", "and", "that", "have", "with"), "Words of which every text in the language has some."
    )


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules in datatrove's order, with its names."""
    words, mean = "words that are not punctuation", "their mean length in characters"
    with_letter = "share of words with a letter"
    return (
        Rule("gopher_short_doc", words, config.min_words, above=False),
        Rule("gopher_long_doc", words, config.max_words),
        Rule("gopher_below_avg_threshold", mean, config.min_mean_word_chars, above=False),
        Rule("gopher_above_avg_threshold", mean, config.max_mean_word_chars),
        Rule("gopher_too_many_hashes", "number signs for each word", config.max_hashes_per_word),
        Rule("gopher_too_many_ellipsis", "ellipses for each word", config.max_ellipses_per_word),
        Rule("gopher_too_many_bullets", "share of lines with a bullet", config.max_bullet_line_share),
        Rule("gopher_too_many_end_ellipsis", "share of lines ending in ellipsis", config.max_ellipsis_line_share),
        Rule("gopher_below_alpha_threshold", with_letter, config.min_alpha_word_share, above=False),
        Rule("gopher_enough_stop_words", "different stop words", config.min_stop_words, above=False),
    )


def measure(batch: Batch, config: Config) -> Measured:
    """Measure each document's words and lines."""
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.lines import measure_marks
    from gptctl.text.kernels.words import ALL_PUNCTUATION, HAS_LETTER, count_stop_words

    words, (lengths, traits) = batch.words, batch.words.traits
    spoken = (traits & ALL_PUNCTUATION) == 0

    def sums(values: NDArray[np.generic]) -> NDArray[np.int64]:
        total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return np.asarray(total[words.last] - total[words.first])

    count = sums(spoken)
    mean = sums(lengths * spoken) / np.maximum(count, 1)
    of_all = np.maximum(words.counts(), 1)
    data, offsets = buffers(batch.text)
    marks = np.empty((len(batch), 5), np.int64)
    measure_marks(data, offsets, kinds(), marks)
    signs, ellipses, lines, bullets, trailing = marks.T
    lines = np.maximum(lines, 1)
    stops = [word.encode() for word in dict.fromkeys(config.stop_words)]
    found = np.empty(len(batch), np.int64)
    bounds = np.cumsum([0, *map(len, stops)])
    listed = np.frombuffer(b"".join(stops) or b"\0", np.uint8)
    count_stop_words(words.data, words.starts, words.first, words.last, listed, bounds, found)
    letters = sums((traits & HAS_LETTER) != 0) / of_all
    marked = (signs / of_all, ellipses / of_all, bullets / lines, trailing / lines)
    columns = (count, count, mean, mean, *marked, letters, found)
    return Measured(np.stack([np.asarray(column, np.float64) for column in columns], axis=1))
