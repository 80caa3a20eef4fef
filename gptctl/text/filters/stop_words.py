"""Drop documents with few stop words: prose has many, while tables, lists, code and other languages have few."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.config import Settings, key
from gptctl.text.cleaning.batch import Batch, Measured, Rule


class Config(Settings):
    """Bounds of the share of stop words."""

    language: str = key("english", "Language of the list, by its English name.")
    # Half the lowest share in 2,562 English reviews, speeches, news and chats (0.20; half of them lie above 0.50). Of
    # one-sentence questions, 5 in 5,452 lie below it; so do 69 of 75 texts in other languages, 460 of the 1,790 files
    # of Python's library, and 30 of 915 pages of program documentation: indexes, line numbers.
    min_share: float = key(0.1, "Smallest share of a document's words that are stop words.", ge=0, le=1)
    max_share: float = key(1.0, "Largest share; below 1 it also drops texts of hardly anything else.", ge=0, le=1)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rules, both on the same figure."""
    figure = "share of stop words"
    return (
        Rule("too_few_stop_words", figure, config.min_share, above=False),
        Rule("too_many_stop_words", figure, config.max_share),
    )


def measure(batch: Batch, config: Config) -> Measured:
    """Measure the share of words that are stop words, whatever their case; words of punctuation only do not count.

    The share is 0 where there is no word. Raises UsageError for a language without a list.
    """
    from gptctl.text.kernels.words import ALL_PUNCTUATION
    from gptctl.text.words import stop_words

    stops, _ = stop_words(config.language)
    words = batch.words
    count = len(words.starts) - 1
    column = pa.LargeStringArray.from_buffers(count, pa.py_buffer(words.starts), pa.py_buffer(words.data))
    coded = column.dictionary_encode()  # so that each different word is looked up once
    listed = pc.is_in(pc.utf8_lower(coded.dictionary), pa.array(sorted(stops), pa.large_string()))
    hits = listed.to_numpy(zero_copy_only=False)[coded.indices.to_numpy()]
    spoken = words.traits[1] & ALL_PUNCTUATION == 0
    shares = _sums(hits, words.first, words.last) / np.maximum(_sums(spoken, words.first, words.last), 1)
    return Measured(np.stack([shares, shares], axis=1))


def _sums(marks: NDArray[np.bool_], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the marked words of each document."""
    running = np.concatenate(([0], np.cumsum(marks)))
    return np.asarray(running[last] - running[first])
