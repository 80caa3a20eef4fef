"""Drop documents that do not look like prose.

Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", appendix A1.1, "Quality
filtering", decided as datatrove 0.10.1 does with words split by `\\w+|[^\\w\\s]+`. What the paper leaves open:

- the number of words and their mean length leave out words of punctuation only; all other shares are of all words;
- lines are those of `str.splitlines`; a bullet is "•" or "-" after blanks;
- stop words are distinct and lower case: "The" is none.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from gptctl.core.config import Settings, key
from gptctl.text.punctuation import PUNCTUATION
from gptctl.text.words import split_function


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


def reasons(text: pa.LargeStringArray, config: Config) -> pa.StringArray:
    """Say by which rule each document is dropped, the first that fails, or null where it stays."""
    split = split_function("regex")
    return pa.array([_reason(doc, config, split) for doc in text.to_pylist()], pa.string())


def _reason(text: str, config: Config, split: Callable[[str], list[str]]) -> str | None:
    words = split(text)
    return _word_sizes(words, config) or _marks(text, words, config) or _vocabulary(words, config)


def _word_sizes(words: list[str], config: Config) -> str | None:
    spoken = [word for word in words if not PUNCTUATION.issuperset(word)]
    if len(spoken) < config.min_words:
        return "gopher_short_doc"
    if len(spoken) > config.max_words:
        return "gopher_long_doc"
    mean = sum(map(len, spoken)) / len(spoken) if spoken else 0.0
    if mean < config.min_mean_word_chars:
        return "gopher_below_avg_threshold"
    return "gopher_above_avg_threshold" if mean > config.max_mean_word_chars else None


def _marks(text: str, words: list[str], config: Config) -> str | None:
    count = max(len(words), 1)
    if text.count("#") / count > config.max_hashes_per_word:
        return "gopher_too_many_hashes"
    if (text.count("...") + text.count("…")) / count > config.max_ellipses_per_word:
        return "gopher_too_many_ellipsis"
    lines = text.splitlines()
    count = max(len(lines), 1)
    if sum(line.lstrip().startswith(("•", "-")) for line in lines) / count > config.max_bullet_line_share:
        return "gopher_too_many_bullets"
    if sum(line.rstrip().endswith(("...", "…")) for line in lines) / count > config.max_ellipsis_line_share:
        return "gopher_too_many_end_ellipsis"
    return None


def _vocabulary(words: list[str], config: Config) -> str | None:
    with_letter = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words)
    if with_letter / max(len(words), 1) < config.min_alpha_word_share:
        return "gopher_below_alpha_threshold"
    if len(set(config.stop_words).intersection(words)) < config.min_stop_words:
        return "gopher_enough_stop_words"
    return None
