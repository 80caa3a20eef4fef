"""Long passages that stand earlier in the input too: keys of all windows of words, and texts without such passages.

Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2: exact substrings of 50 tokens
or more. They sort all suffixes of the input in memory; here windows of `length` words are compared by a rolling hash,
so that the work can be cut into ranges of keys.

A passage of `length` words or more stands earlier exactly if all its windows do, so no window can be left out. One
starts at nearly each word, and its key and place take 16 bytes, where a word of English takes 4.9 to 5.2 bytes of text:
three times the text goes to disk. One core does 145 to 220 MB/s of `keys`, and 70 to 105 MB/s of `remove` where all
documents change.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.words import WORD, count_batch


def keys(text: pa.LargeStringArray, length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the key of each window of `length` words inside a document, and its position.

    A position is the number of the window's first word among all words of the column, from 0. Words are those of
    `gptctl.text.words` ("regex"); case is compared, white space between words is not. A document of fewer words, and a
    null, has no window.

    Windows are compared by these 64 bits only. Of n different windows, about n**2 / 2**65 pairs have the same key by
    chance: none is expected in 10**9 words (odds 1 in 37), 3 pairs in 10**10, 27,000 in 10**12, each of which costs
    `length` words: at a length of 50, one word in 740,000.
    """
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.spans import hash_windows

    counts = count_batch(text, "regex")
    windows = int(np.maximum(counts - length + 1, 0).sum())
    found, positions = np.empty(windows, np.uint64), np.empty(windows, np.int64)
    hash_windows(*buffers(text), kinds(), counts, length, found, positions)
    return found, positions


def remove(
    text: pa.LargeStringArray, length: int, duplicates: NDArray[np.int64]
) -> tuple[pa.LargeStringArray, int, int]:
    """Cut out all words of some windows; give the new column, the number of spans cut, and bytes it is shorter by.

    `duplicates`, ascending: positions that `keys` gave for the same column and length. Windows that overlap or touch
    make one span. The text around a span stays as it is; of the white space before and after it one stays, that with
    more line feeds, of equals the latter, and where there is none a blank is put in. At a document's start or end none
    stays, but for indentation. A document of which nothing is left is the empty text. Nulls stay null.

    A window that overlaps the first occurrence of the same words stays, as a run like "ha ha ha" would else eat the
    copy that makes it one: of 500 times "ha", the first `length` stay, and a run shorter than 2 * `length` stays whole.
    """
    if not len(duplicates):
        return text, 0, 0
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.spans import column, cut_windows

    data, offsets = buffers(text)
    counts = count_batch(text, "regex")
    ends = np.cumsum(counts)
    inside = np.searchsorted(ends, duplicates, "right")
    assert duplicates[0] >= 0 and inside[-1] < len(ends) and (np.diff(duplicates) > 0).all()
    assert (duplicates + length <= ends[inside]).all(), "a window reaches over its document's end"
    size = int(offsets[-1] - offsets[0])
    out, bounds, spans = np.empty(max(1, size), np.uint8), np.empty(len(offsets), np.int64), np.empty(1, np.int64)
    windows = np.ascontiguousarray(duplicates, np.int64)
    cut_windows(data, offsets, kinds(), counts, length, windows, out, bounds, spans)
    return column(text, bounds, out), int(spans[0]), size - int(bounds[-1])


def at(text: pa.LargeStringArray, length: int, positions: NDArray[np.int64]) -> list[str]:
    """Return the passages of `length` words at some positions, which are those that `keys` gives."""
    counts = count_batch(text, "regex")
    ends = np.cumsum(counts)
    passages = []
    for position, document in zip(positions.tolist(), np.searchsorted(ends, positions, "right").tolist(), strict=True):
        first = position - int(ends[document] - counts[document])
        whole = text[document].as_py()
        words = list(islice(WORD.finditer(whole), first, first + length))
        passages.append(whole[words[0].start() : words[-1].end()])
    return passages
