"""Turn the token ids of documents into rows of a shard, each ending with end-of-text. Count words and the ids in use.

While rows are put together, the ids of a document are kept as one binary value. Arrow copies binary values a row at a
time, but lists a number at a time: 33 million tokens get their end-of-text in 4 ms, and with masks in 17.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.text import arrow_arrays

# Bytes up to the space are white space, or control characters, which hardly occur in text.
BLANK = 0x20
# Text that is looked at in one pass over its bytes, so that it stays in the processor's cache.
CHUNK_BYTES = 2**18


def to_binary(tokens: pa.LargeListArray) -> pa.LargeBinaryArray:
    """Return lists of ids as binary values, without copying."""
    values = tokens.values
    width = values.type.bit_width // 8
    offsets = pa.py_buffer(arrow_arrays.to_numpy(tokens.offsets) * width)
    data = values.buffers()[1].slice(values.offset * width) if len(values) else pa.py_buffer(b"")
    return pa.Array.from_buffers(pa.large_binary(), len(tokens), [None, offsets, data])


def to_lists(rows: pa.LargeBinaryArray, dtype: np.dtype[Any]) -> pa.LargeListArray:
    """Return binary values as lists of ids, without copying."""
    if not len(rows):
        return arrow_arrays.lists(np.zeros(1, np.int64), np.empty(0, dtype))
    offsets = np.frombuffer(rows.buffers()[1], np.int64)[rows.offset : rows.offset + len(rows) + 1] // dtype.itemsize
    return arrow_arrays.lists(offsets, np.frombuffer(rows.buffers()[2] or b"", dtype, int(offsets[-1])))


def append(rows: pa.LargeBinaryArray, chosen: NDArray[np.bool_] | None, value: bytes) -> pa.LargeBinaryArray:
    """Return the rows with `value`, the bytes of end-of-text, behind each chosen one; None chooses all."""
    nothing, once = repeat(b"", np.ones(1, np.bool_))[0], repeat(value, np.ones(1, np.bool_))[0]
    return pc.binary_join_element_wise(rows, once if chosen is None else repeat(value, chosen), nothing)


def repeat(value: bytes, chosen: NDArray[np.bool_]) -> pa.LargeBinaryArray:
    """Return a column that holds `value` in the chosen rows and nothing in the others."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen, dtype=np.int64)]) * len(value)
    data = pa.py_buffer(value * int(np.count_nonzero(chosen)))
    return pa.Array.from_buffers(pa.large_binary(), len(chosen), [None, pa.py_buffer(offsets), data])


def ids_in_use(tokens: pa.LargeListArray, vocab_size: int) -> NDArray[np.bool_]:
    """Mark the ids that occur (1.5 ns per token)."""
    is_used = np.zeros(vocab_size, np.bool_)
    is_used[arrow_arrays.to_numpy(tokens.values)] = True
    return is_used


def count_words(texts: pa.LargeStringArray) -> int:
    """Count the words of a column's documents, which are what white space of ASCII separates."""
    offsets, data = arrow_arrays.string_buffers(texts)
    words = 0
    for start in range(int(offsets[0]), int(offsets[-1]), CHUNK_BYTES):
        # Begin with the byte before, so that a word is counted once, where it begins.
        blank = data[max(start - 1, int(offsets[0])) : min(start + CHUNK_BYTES, int(offsets[-1]))] <= BLANK
        words += int(np.count_nonzero(blank[:-1] > blank[1:]))
    firsts = offsets[:-1][np.diff(offsets) > 0]
    if not len(firsts):
        return 0
    begins_with_word = data[firsts] > BLANK
    # Documents that begin with a word, behind one that ends with a word: no white space is between them.
    adjacent = (data[firsts[1:] - 1] > BLANK) & begins_with_word[1:]
    return words + int(begins_with_word[0]) + int(np.count_nonzero(adjacent))


def count_unspaced(texts: pa.LargeStringArray) -> int:
    """Count the characters of Chinese, Japanese, Thai, Lao, Tibetan, Burmese and Khmer, by their first two bytes.

    In UTF-8, Chinese characters, kana and their punctuation begin with E3 to E9. Thai, Lao and Tibetan begin with E0 B8
    to E0 BF, Burmese with E1 80 to E1 82, and Khmer with E1 9E or E1 9F.
    """
    offsets, data = arrow_arrays.string_buffers(texts)
    count = 0
    for start in range(int(offsets[0]), int(offsets[-1]), CHUNK_BYTES):
        part = data[start : min(start + CHUNK_BYTES + 1, int(offsets[-1]))]
        if part.max() < 0xE0:
            continue
        first, second = part[:-1], part[1:]
        count += int(np.count_nonzero((first >= 0xE3) & (first <= 0xE9)))
        count += int(np.count_nonzero((first == 0xE0) & (second >= 0xB8)))
        count += int(np.count_nonzero((first == 0xE1) & ((second <= 0x82) | (second & 0xFE == 0x9E))))
    return count
