"""Find evaluation texts inside other documents, by the runs of 13 words that both have.

Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C: words in lower case without punctuation, n = 13.
Here words are runs of letters and digits (a single character in scripts without spaces), those that near-duplicates are
compared by. A shorter evaluation text is looked for as a whole, if it has at least 8 words, the least that the paper
uses for any of its data sets; still shorter ones would be found in innocent documents, and are only counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.pipeline.sorted_runs import distinct
from gptctl.text.dedup import shingles
from gptctl.text.dedup.minhash import MULTIPLIER, chunks
from gptctl.text.dedup.shingles import Shingling, normalized_words

WORDS, MIN_WORDS = 13, 8


@dataclass(frozen=True)
class Index:
    """All word n-grams of the evaluation texts.

    `grams`: their 64-bit hashes, sorted, each once. `lengths`: the numbers of words that they have, `n` and those of
    shorter texts. `texts`: how many texts went in, `too_short`: how many of them have too few words to be found.
    A document's n-gram that is in no evaluation text is taken for one with odds of len(grams) / 2**64: with a million
    of them in the index, once in 2,000 corpora of 10**10 words.
    """

    grams: NDArray[np.uint64]
    lengths: tuple[int, ...]
    texts: int
    too_short: int

    def to_table(self) -> pa.Table:
        """Return the index as an Arrow table, to be written or sent to workers."""
        facts = {
            "lengths": " ".join(map(str, self.lengths)),
            "texts": str(self.texts),
            "too_short": str(self.too_short),
        }
        return pa.table({"gram": pa.array(self.grams)}).replace_schema_metadata(facts)

    @classmethod
    def from_table(cls, table: pa.Table) -> Index:
        """Take an index from its table; a memory-mapped one is not copied. Raises DataError for another table."""
        facts = table.schema.metadata or {}
        try:
            grams = table["gram"].combine_chunks().to_numpy()
            lengths = tuple(map(int, facts[b"lengths"].split()))
            return cls(grams, lengths, int(facts[b"texts"]), int(facts[b"too_short"]))
        except (KeyError, ValueError) as error:
            raise DataError("not an index of evaluation texts", "build it again from the evaluation data") from error

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the places of the hashes that are in the index."""
        rows = np.flatnonzero(self._marks[hashes >> self._shift])
        places = np.minimum(np.searchsorted(self.grams, hashes[rows]), len(self.grams) - 1)
        return np.asarray(rows[self.grams[places] == hashes[rows]])

    @cached_property
    def _shift(self) -> np.uint64:
        """How far down a hash is shifted to its place in the table of marks: 16 places a gram, at most 2**26."""
        return np.uint64(64 - min(max(len(self.grams).bit_length() + 4, 12), 26))

    @cached_property
    def _marks(self) -> NDArray[np.bool_]:
        """Which upper bits occur: tells nearly all that is not in the index without a search, seven times as fast."""
        marks = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        marks[self.grams >> self._shift] = True
        return marks


def build(texts: Iterable[pa.LargeStringArray], n: int = WORDS, min_words: int = MIN_WORDS) -> Index:
    """Index evaluation texts. One of fewer than `n` words counts as one gram, if it has `min_words`."""
    found = [np.empty(0, np.uint64)]
    lengths: set[int] = set()
    count = too_short = 0
    for text in texts:
        for hashes, bounds in _hashed(text):
            sizes = np.diff(bounds)
            count += len(sizes)
            too_short += int((sizes < min(min_words, n)).sum())
            for length, windows in _windows(hashes, n):
                whole = (sizes >= n) if length == n else (sizes == length) & (length >= min_words)
                starts, grams = bounds[:-1][whole], sizes[whole] - length + 1
                inside = np.arange(grams.sum()) + np.repeat(starts - (np.cumsum(grams) - grams), grams)
                lengths |= {length} if len(inside) else set()
                found.append(distinct(windows[inside]))
    return Index(distinct(np.concatenate(found)), tuple(sorted(lengths)), count, too_short)


def hits(text: pa.LargeStringArray, index: Index) -> NDArray[np.int64]:
    """Count the places in each document at which a gram of the index stands."""
    counts = []
    for hashes, bounds in _hashed(text):
        count = np.zeros(len(bounds) - 1, np.int64)
        for _, _, documents in _matches(hashes, bounds, index):
            count += np.bincount(documents, minlength=len(count))
        counts.append(count)
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)


def grams_in(text: pa.LargeStringArray, index: Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places at which a gram of the index stands: the document of each, and the gram's place in the
    index."""
    documents, grams = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    first = 0
    for hashes, bounds in _hashed(text):
        for length, windows in _windows(hashes, max(index.lengths, default=0)):
            if length in index.lengths:
                places = index.find(windows)
                owners = np.searchsorted(bounds, places, "right") - 1
                inside = places + length <= bounds[owners + 1]
                documents.append(owners[inside] + first)
                grams.append(np.searchsorted(index.grams, windows[places[inside]]))
        first += len(bounds) - 1
    return np.concatenate(documents), np.concatenate(grams)


def where(text: str, index: Index) -> str | None:
    """Return the first words of a document that stand in an evaluation text, or None."""
    column = pa.array([text], pa.large_string())
    found = [
        (int(place), length)
        for hashes, bounds in _hashed(column)
        for length, places, _ in _matches(hashes, bounds, index)
        for place in places[:1]
    ]
    if not found:
        return None
    place, length = min(found)
    return " ".join(normalized_words(column)[0].as_py()[place : place + length])


def _hashed(text: pa.LargeStringArray) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Return the hashes of all words, a few documents at a time; where each document's begin, and the last one's
    end."""
    for first, last in chunks(text):
        words, counts = shingles.hashes(text.slice(first, last - first), Shingling(ngram=1))
        yield words, shingles.to_offsets(counts)


def _windows(hashes: NDArray[np.uint64], n: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Return for each length up to `n` the hashes of all runs of so many words: a polynomial of the words' hashes.

    The array is overwritten by that of the next length.
    """
    windows = hashes.copy()
    yield 1, windows
    for length in range(2, n + 1):
        windows = windows[: max(len(hashes) - length + 1, 0)]
        windows *= MULTIPLIER
        windows += hashes[length - 1 :]
        yield length, windows


def _matches(
    hashes: NDArray[np.uint64], bounds: NDArray[np.int64], index: Index
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Return for each length of the index the words at which one of its grams begins, and their documents."""
    for length, windows in _windows(hashes, max(index.lengths, default=0)):
        if length in index.lengths:
            places = index.find(windows)
            documents = np.searchsorted(bounds, places, "right") - 1
            inside = places + length <= bounds[documents + 1]
            yield length, places[inside], documents[inside]
