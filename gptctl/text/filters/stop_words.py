"""Drop documents with few stop words. Prose has many; tables, lists, code and other languages have few."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import field_validator

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule


class Config(Settings):
    """Bounds of the share of stop words."""

    language: str = key("english", "Language of the list of stop words: english or en, german or de, and so on.")
    # Half of the lowest share in 2,562 English reviews, speeches, news and chats, which is 0.20 (the median is 0.50).
    # Below 0.1 are 5 of 5,452 one-sentence questions, 69 of 75 texts in other languages, 460 of the 1,790 files of
    # Python's library, and 30 of 915 pages of program documentation, which are indexes and line numbers.
    min_share: float = key(0.1, "Smallest share of a document's words that are stop words.", ge=0, le=1)
    max_share: float = key(
        1.0, "Largest share; a value below 1 drops texts of hardly anything but stop words.", ge=0, le=1
    )

    @field_validator("language")
    @classmethod
    def list_of_language(cls, value: str) -> str:
        """Return the name of the list, also for a code such as en."""
        from gptctl.text.words import stop_word_list

        return stop_word_list(value)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return both bounds of the same figure."""
    description = "share of stop words"
    return (
        Rule("min_share", description, config.min_share, "below"),
        Rule("max_share", description, config.max_share),
    )


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Measure the share of words that are stop words, in any case. Words that are punctuation only do not count.

    The share is 0 if there is no word. Raises UsageError for a language without a list.
    """
    from gptctl.text.kernels.words import ALL_PUNCTUATION
    from gptctl.text.words import stop_words

    stops, _ = stop_words(config.language)
    words = batch.words
    count = len(words.starts) - 1
    column = pa.LargeStringArray.from_buffers(count, pa.py_buffer(words.starts), pa.py_buffer(words.data))
    encoded = column.dictionary_encode()  # so that each distinct word is looked up once
    in_list = pc.is_in(pc.utf8_lower(encoded.dictionary), pa.array(sorted(stops), pa.large_string()))
    is_stop_word = in_list.to_numpy(zero_copy_only=False)[encoded.indices.to_numpy()]
    not_punctuation = words.traits[1] & ALL_PUNCTUATION == 0
    word_counts = _sums(not_punctuation, words.first, words.last)
    shares = _sums(is_stop_word, words.first, words.last) / np.maximum(word_counts, 1)
    return FilterResult(np.stack([shares, shares], axis=1))


def _sums(marks: NDArray[np.bool_], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the marked words of each document."""
    running = np.concatenate(([0], np.cumsum(marks)))
    return np.asarray(running[last] - running[first])
