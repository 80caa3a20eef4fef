"""Passages of many words: keys of all windows of words, and removing some of them from documents.

Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2, remove exact substrings of 50
tokens or more. They sort all suffixes of the input in memory. Here, windows of `length` words are compared by a rolling
hash, so that the work can be cut into ranges of keys.

A passage of `length` words or more occurs earlier if and only if all its windows do, so no window can be skipped. A
window starts at nearly each word. Its key and location take 16 bytes, while an English word takes 4.9 to 5.2 bytes of
text, so three times the text goes to disk. One core hashes 145 to 220 MB/s, and removes passages from 70 to 105 MB/s if
all documents change.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.scripts import UNSPACED, letters_of


def keys(text: pa.LargeStringArray, length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the key of each window of `length` words inside a document, and its position.

    The position is the number of the window's first word among all words of the column, from 0. Words are those of
    `gptctl.text.words` ("regex"), and each letter of a script without spaces between words. Case is compared, white
    space between words is not. A document of fewer words has no window, and neither has a null.

    Windows are compared by these 64 bits only. Of n different windows, about n**2 / 2**65 pairs have the same key by
    chance: none is expected in 10**9 words (probability 1 in 37), 3 pairs in 10**10, 27,000 in 10**12. Each costs
    `length` words: at a length of 50, one word in 740,000.
    """
    from gptctl.text.kernels.characters import buffers
    from gptctl.text.kernels.windows import hash_windows, word_kinds

    counts = _count_words(text)
    windows = int(np.maximum(counts - length + 1, 0).sum())
    values, positions = np.empty(windows, np.uint64), np.empty(windows, np.int64)
    hash_windows(*buffers(text), word_kinds(), counts, length, values, positions)
    return values, positions


def remove(
    text: pa.LargeStringArray, length: int, positions: NDArray[np.int64]
) -> tuple[pa.LargeStringArray, int, int]:
    """Return the column without the words of some windows, the number of spans removed, and how many bytes shorter.

    `positions`, ascending, are those that `keys` returned for the same column and length. Windows that overlap or touch
    form one span. The text around a span stays as it is. Of the white space before and after it, the one with more line
    feeds stays, the latter if both have as many, and a space is inserted if there is none. At the start or end of a
    document no white space stays, except for indentation. A document of which nothing is left becomes the empty text.
    Nulls stay null.

    A window stays if it overlaps the first occurrence of the same words. Otherwise a run like "ha ha ha" would remove
    its own first occurrence. Of 500 times "ha", the first `length` stay; a run shorter than 2 * `length` stays whole.
    """
    if not len(positions):
        return text, 0, 0
    from gptctl.text.kernels.characters import buffers
    from gptctl.text.kernels.string_column import string_column
    from gptctl.text.kernels.windows import remove_windows, word_kinds

    data, offsets = buffers(text)
    counts = _count_words(text)
    ends = np.cumsum(counts)
    documents = np.searchsorted(ends, positions, "right")
    assert positions[0] >= 0 and documents[-1] < len(ends) and (np.diff(positions) > 0).all()
    assert (positions + length <= ends[documents]).all(), "a window extends over the end of its document"
    size = int(offsets[-1] - offsets[0])
    new_data, new_offsets = np.empty(max(1, size), np.uint8), np.empty(len(offsets), np.int64)
    spans = np.empty(1, np.int64)
    windows = np.ascontiguousarray(positions, np.int64)
    remove_windows(data, offsets, word_kinds(), counts, length, windows, new_data, new_offsets, spans)
    return string_column(text, new_offsets, new_data), int(spans[0]), size - int(new_offsets[-1])


def texts_at(text: pa.LargeStringArray, length: int, positions: NDArray[np.int64]) -> list[str]:
    """Return the passages of `length` words at some positions, as `keys` numbers them."""
    counts = _count_words(text)
    ends = np.cumsum(counts)
    passages = []
    for position, document in zip(positions.tolist(), np.searchsorted(ends, positions, "right").tolist(), strict=True):
        first = position - int(ends[document] - counts[document])
        whole = text[document].as_py()
        words = list(islice(_word_pattern().finditer(whole), first, first + length))
        passages.append(whole[words[0].start() : words[-1].end()])
    return passages


def _count_words(text: pa.LargeStringArray) -> NDArray[np.int64]:
    from gptctl.text.kernels.characters import buffers
    from gptctl.text.kernels.windows import count_words, word_kinds

    counts = np.empty(len(text), np.int64)
    count_words(*buffers(text), word_kinds(), counts)
    return counts


@cache
def _word_pattern() -> re.Pattern[str]:
    """Return the pattern of the words that the kernels find."""
    from gptctl.text.combining_marks import character_class, combining_marks

    mark, single = character_class(combining_marks()), character_class(letters_of(*UNSPACED))
    other = rf"(?![{single}])\w"
    return re.compile(rf"[{single}][{mark}]*|{other}(?:{other}|[{mark}])*|[^\w\s]+")
