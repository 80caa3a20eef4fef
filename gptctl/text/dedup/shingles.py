"""Shingles: n-grams of words or characters, as 64-bit hashes, by which documents are compared.

Broder 1997, "On the resemblance and containment of documents". Two different shingles have the same hash with a
probability of 2**-64: among the 10**10 shingles of 20 million documents, two or three pairs do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.scripts import UNSPACED, letters_of
from gptctl.text.segmentation import separate_words


@dataclass(frozen=True)
class Shingling:
    """How a text is cut into shingles.

    `ngram` is the number of units in a shingle. `unit` is "words", or "chars" for the characters of the same words with
    one space between words. With `normalize`, words are runs of letters and numbers (str.isalnum) with their combining
    marks, in lower case. Scripts without spaces between words are segmented (gptctl.text.segmentation) if `segment` is
    set. Otherwise, and for "chars", each of their characters is a word. Without `normalize`, words are what white space
    separates, unchanged.
    """

    ngram: int = 5
    unit: Literal["words", "chars"] = "words"
    normalize: bool = True
    segment: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for an `ngram` that the compiled code cannot handle."""
        if self.ngram < 1:
            raise ValueError(f"ngram is {self.ngram}, not 1 or more")

    @property
    def segments_words(self) -> bool:
        """Return whether words of scripts without spaces are those of gptctl.text.segmentation."""
        return self.segment and self.normalize and self.unit == "words"


def hashes(text: pa.LargeStringArray, shingling: Shingling) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the hashes of all shingles, in the order of the text, and the number of shingles of each document.

    A document of fewer than `ngram` units has none; so does a null. This needs up to 8 bytes of memory for each byte of
    text, so pass large columns in parts.
    """
    from gptctl.text.kernels.characters import buffers
    from gptctl.text.kernels.shingles import code_point_table, hash_shingles

    if shingling.segments_words:
        text = separate_words(text)
    data, offsets = buffers(text)
    counts = np.empty(len(text), np.int64)
    # A word takes at least two bytes, itself and a separator; a word of a script without spaces takes three.
    size = int(offsets[-1] - offsets[0])
    capacity = size if shingling.unit == "chars" else (size + len(text)) // 2
    values = np.empty(capacity + 1, np.uint64)
    table = code_point_table(shingling.normalize, not shingling.segments_words)
    hash_shingles(data, offsets, table, shingling.unit == "chars", shingling.ngram, values, counts)
    return values[: counts.sum()], counts


def to_offsets(counts: NDArray[np.int64 | np.bool_]) -> NDArray[np.int64]:
    """Return the offsets (n + 1) of n consecutive ranges from their lengths."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def sets(text: pa.LargeStringArray, shingling: Shingling) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct hashes of each document, sorted, one document after another, and their offsets (n + 1)."""
    values, counts = hashes(text, shingling)
    offsets = to_offsets(counts)
    is_first = np.ones(len(values), np.bool_)
    # numpy sorts 500 hashes in 1.5 us, numba in 15.
    for start, end in pairwise(offsets.tolist()):
        values[start:end].sort()
    is_first[1:] = values[1:] != values[:-1]
    is_first[offsets[:-1][counts > 0]] = True
    return values[is_first], to_offsets(is_first)[offsets]


def jaccard(
    values: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    right_sets: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None,
) -> NDArray[np.float64]:
    """Return the exact Jaccard similarity |A & B| / |A | B| of pairs of documents, 0 if neither has a shingle.

    `values` and `offsets` are the result of `sets`; `left` and `right` (pairs,) are rows of it. If `right_sets` is
    given, `right` are rows of that.
    """
    from gptctl.text.kernels.shingles import jaccard_similarity

    similarity = np.empty(len(left), np.float64)
    left, right = (np.ascontiguousarray(rows, np.int64) for rows in (left, right))
    jaccard_similarity(values, offsets, left, *(right_sets or (values, offsets)), right, similarity)
    return similarity


def normalized_words(text: pa.LargeStringArray) -> pa.ListArray:
    """Return the normalized words of each document as strings, to show them: those of Shingling(segment=False)."""
    lower = ("".join(character.lower()[0] for character in document or "") for document in text.to_pylist())
    return pa.array(list(map(_word_pattern().findall, lower)), pa.list_(pa.large_string()))


@cache
def _word_pattern() -> re.Pattern[str]:
    """Return the pattern of a normalized word: one letter of a script without spaces, or a run of others, and marks."""
    from gptctl.text.combining_marks import character_class, combining_marks

    mark, single = character_class(combining_marks()), character_class(letters_of(*UNSPACED))
    other = rf"(?![{single}])[^\W_]"
    return re.compile(rf"[{single}][{mark}]*|{other}(?:{other}|[{mark}])*")
