"""Shingles: the n-grams of words or characters by which documents are compared, as 64-bit hashes.

Broder 1997, "On the resemblance and containment of documents". Two different shingles share a hash with odds of
1 / 2**64: among the 10**10 shingles of 20 million documents, two or three do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shingling:
    """What the shingles of a text are.

    `ngram`: how many words or characters each has. `normalize`: words are runs of letters and numbers (str.isalnum) in
    lower case, and single characters in Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar and Tibetan script; else
    they are what stands between white space, as it is. `unit`: words, or the characters of the same words with one
    blank between words.
    """

    ngram: int = 5
    unit: Literal["words", "chars"] = "words"
    normalize: bool = True

    def __post_init__(self) -> None:
        """Refuse what compiled code would take for granted."""
        if self.ngram < 1:
            raise ValueError(f"ngram is {self.ngram}, not 1 or more")


def hashes(text: pa.LargeStringArray, how: Shingling) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash each document's shingles: all hashes in a row, in the text's order, and how many each document has.

    A document of fewer than `how.ngram` units has none, a null neither. Work space is 8 bytes for each byte of text at
    most: cut large columns.
    """
    from gptctl.text.kernels.characters import buffers
    from gptctl.text.kernels.shingles import entries, hash_shingles

    data, offsets = buffers(text)
    counts = np.empty(len(text), np.int64)
    # Words have a byte and another one between; those without one between them have three.
    size = int(offsets[-1] - offsets[0])
    room = size if how.unit == "chars" else (size + len(text)) // 2
    found = np.empty(room + 1, np.uint64)
    hash_shingles(data, offsets, entries(how.normalize), how.unit == "chars", how.ngram, found, counts)
    return found[: counts.sum()], counts


def bounds(counts: NDArray[np.int64 | np.bool_]) -> NDArray[np.int64]:
    """Return where each of some ranges in a row begins, and the last one's end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def sets(text: pa.LargeStringArray, how: Shingling) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Give each document's different hashes, sorted, in a row; and the offsets (n + 1) of the documents in it."""
    values, counts = hashes(text, how)
    offsets = bounds(counts)
    first = np.ones(len(values), np.bool_)
    # numpy sorts 500 hashes in 1.5 us, numba in 15.
    for start, end in pairwise(offsets.tolist()):
        values[start:end].sort()
    first[1:] = values[1:] != values[:-1]
    first[offsets[:-1][counts > 0]] = True
    return values[first], bounds(first)[offsets]


def jaccard(
    values: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    others: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None,
) -> NDArray[np.float64]:
    """Return the exact share |A & B| / |A | B| of pairs of documents' sets, 0 where neither has a shingle.

    `values` and `offsets` are what `sets` gives, `left` and `right` (pairs,) are its rows; `right` are rows of
    `others`, if given.
    """
    from gptctl.text.kernels.shingles import share_in_common

    shares = np.empty(len(left), np.float64)
    left, right = (np.ascontiguousarray(rows, np.int64) for rows in (left, right))
    share_in_common(values, offsets, left, *(others or (values, offsets)), right, shares)
    return shares


def split_words(text: pa.LargeStringArray) -> pa.ListArray:
    """Give each document's normalised words as strings, to show them: hashes are made ten times as fast."""
    from gptctl.text.kernels.shingles import ALONE, POINT, entries

    words = []
    for document in text.to_pylist():
        found = entries(True)[np.frombuffer((document or "").encode("utf-32-le"), np.uint32)]
        # Blanks around single characters, and for what separates words.
        spaced = np.full((len(found), 3), ord(" "), np.uint32)
        spaced[:, 1] = np.where(found > 0, found & POINT, ord(" "))
        keep = np.ones(spaced.shape, np.bool_)
        keep[:, ::2] = (found >= ALONE)[:, None]
        words.append(spaced[keep].tobytes().decode("utf-32-le").split())
    return pa.array(words, pa.list_(pa.large_string()))
