"""Find evaluation texts inside other documents by the sequences of 13 words that both have.

Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C: words in lower case without punctuation, n = 13.
Here words are runs of letters and digits, or single characters in scripts without spaces, as for near-duplicates. A
shorter evaluation text is searched for as a whole if it has at least 8 words, the smallest n of the paper for any
dataset. Even shorter texts would be found in unrelated documents, so they are only counted.
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

NGRAM_WORDS, MIN_TEXT_WORDS = 13, 8


@dataclass(frozen=True)
class NgramIndex:
    """All word n-grams of the evaluation texts.

    `hashes` are the distinct 64-bit hashes of the n-grams, sorted. `lengths` are the lengths of the n-grams in words:
    n, and the lengths of shorter texts. `texts` is the number of indexed texts, `too_short` the number of those that
    have too few words to be found. An n-gram that is in no evaluation text matches by a hash collision with probability
    len(hashes) / 2**64: with a million n-grams, once in 2,000 corpora of 10**10 words.
    """

    hashes: NDArray[np.uint64]
    lengths: tuple[int, ...]
    texts: int
    too_short: int

    def to_table(self) -> pa.Table:
        """Return the index as an Arrow table, which can be written or sent to workers."""
        metadata = {
            "lengths": " ".join(map(str, self.lengths)),
            "texts": str(self.texts),
            "too_short": str(self.too_short),
        }
        return pa.table({"hash": pa.array(self.hashes)}).replace_schema_metadata(metadata)

    @classmethod
    def from_table(cls, table: pa.Table) -> NgramIndex:
        """Read an index from its table without copying it. Raises DataError for any other table."""
        metadata = table.schema.metadata or {}
        try:
            hashes = table["hash"].combine_chunks().to_numpy()
            lengths = tuple(map(int, metadata[b"lengths"].split()))
            return cls(hashes, lengths, int(metadata[b"texts"]), int(metadata[b"too_short"]))
        except (KeyError, ValueError) as error:
            raise DataError("not an index of evaluation texts", "build it again from the evaluation data") from error

    def positions_in(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the positions of those hashes that are in the index."""
        rows = np.flatnonzero(self._bitmap[hashes >> self._shift])
        nearest = np.minimum(np.searchsorted(self.hashes, hashes[rows]), len(self.hashes) - 1)
        return np.asarray(rows[self.hashes[nearest] == hashes[rows]])

    @cached_property
    def _shift(self) -> np.uint64:
        """By how many bits a hash is shifted to its position in the bitmap: 16 positions per n-gram, at most 2**26."""
        return np.uint64(64 - min(max(len(self.hashes).bit_length() + 4, 12), 26))

    @cached_property
    def _bitmap(self) -> NDArray[np.bool_]:
        """Which upper bits occur in the index.

        Most hashes that are not in the index are excluded without a binary search, which is seven times as fast.
        """
        bitmap = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        bitmap[self.hashes >> self._shift] = True
        return bitmap


def build_index(
    texts: Iterable[pa.LargeStringArray], n: int = NGRAM_WORDS, min_words: int = MIN_TEXT_WORDS
) -> NgramIndex:
    """Index evaluation texts. A text of fewer than `n` words is one n-gram if it has at least `min_words` words."""
    found = [np.empty(0, np.uint64)]
    lengths: set[int] = set()
    count = too_short = 0
    for text in texts:
        for hashes, bounds in _word_hashes(text):
            sizes = np.diff(bounds)
            count += len(sizes)
            too_short += int((sizes < min(min_words, n)).sum())
            for length, ngrams in _ngram_hashes(hashes, n):
                indexed = (sizes >= n) if length == n else (sizes == length) & (length >= min_words)
                starts, counts = bounds[:-1][indexed], sizes[indexed] - length + 1
                inside = np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
                lengths |= {length} if len(inside) else set()
                found.append(distinct(ngrams[inside]))
    return NgramIndex(distinct(np.concatenate(found)), tuple(sorted(lengths)), count, too_short)


def count_words(text: pa.LargeStringArray) -> NDArray[np.int64]:
    """Count the words of each text, as `build_index` does."""
    counts = [np.diff(bounds) for _, bounds in _word_hashes(text)]
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)


def count_matches(text: pa.LargeStringArray, index: NgramIndex) -> NDArray[np.int64]:
    """Count the positions in each document at which an n-gram of the index begins."""
    counts = []
    for hashes, bounds in _word_hashes(text):
        count = np.zeros(len(bounds) - 1, np.int64)
        for _, _, documents in _matches(hashes, bounds, index):
            count += np.bincount(documents, minlength=len(count))
        counts.append(count)
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)


def find_ngrams(text: pa.LargeStringArray, index: NgramIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the document and the index entry of every match, as two arrays."""
    documents, entries = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    first = 0
    for hashes, bounds in _word_hashes(text):
        for length, ngrams in _ngram_hashes(hashes, max(index.lengths, default=0)):
            if length in index.lengths:
                positions = index.positions_in(ngrams)
                owners = np.searchsorted(bounds, positions, "right") - 1
                inside = positions + length <= bounds[owners + 1]
                documents.append(owners[inside] + first)
                entries.append(np.searchsorted(index.hashes, ngrams[positions[inside]]))
        first += len(bounds) - 1
    return np.concatenate(documents), np.concatenate(entries)


def first_match(text: str, index: NgramIndex) -> str | None:
    """Return the first words of a document that are in an evaluation text too, or None."""
    column = pa.array([text], pa.large_string())
    found = [
        (int(position), length)
        for hashes, bounds in _word_hashes(column)
        for length, positions, _ in _matches(hashes, bounds, index)
        for position in positions[:1]
    ]
    if not found:
        return None
    position, length = min(found)
    return " ".join(normalized_words(column)[0].as_py()[position : position + length])


def _word_hashes(text: pa.LargeStringArray) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Yield the hashes of all words of a few documents at a time, with the bounds (documents + 1) of each document."""
    for first, last in chunks(text):
        words, counts = shingles.hashes(text.slice(first, last - first), Shingling(ngram=1, segment=False))
        yield words, shingles.to_offsets(counts)


def _ngram_hashes(hashes: NDArray[np.uint64], n: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield each length up to `n` and the hashes of all n-grams of that length, polynomials of the words' hashes.

    The next length overwrites the array.
    """
    ngrams = hashes.copy()
    yield 1, ngrams
    for length in range(2, n + 1):
        ngrams = ngrams[: max(len(hashes) - length + 1, 0)]
        ngrams *= MULTIPLIER
        ngrams += hashes[length - 1 :]
        yield length, ngrams


def _matches(
    hashes: NDArray[np.uint64], bounds: NDArray[np.int64], index: NgramIndex
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield each length in the index, the positions of the words at which a match begins, and their documents."""
    for length, ngrams in _ngram_hashes(hashes, max(index.lengths, default=0)):
        if length in index.lengths:
            positions = index.positions_in(ngrams)
            documents = np.searchsorted(bounds, positions, "right") - 1
            inside = positions + length <= bounds[documents + 1]
            yield length, positions[inside], documents[inside]
