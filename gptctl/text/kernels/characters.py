"""The classes of all characters, as Python's `str` and `re` define them, and UTF-8 decoding for kernels."""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.combining_marks import combining_marks
from gptctl.text.kernels.compile import compiled
from gptctl.text.punctuation import PUNCTUATION, SENTENCE_TERMINALS

WORD, SPACE, ALPHA, PUNCT, TERMINAL, DIGIT, LINE_END, MARK = 1, 2, 4, 8, 16, 32, 64, 128
# str.splitlines, Python's documentation; "\r\n" is one line end.
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# Planes 4 to 13 are empty, 14 has tags and variation selectors, 15 and 16 are for private use: none is in a class.
ASSIGNED = 0x40000


@cache
def character_classes(*, marks: bool = True) -> NDArray[np.uint8]:
    """Return the classes of each of the 1,114,112 code points as bits.

    A character of the class MARK belongs to the character before it. Without `marks`, the class is empty, so that a
    combining mark ends a word, as it does for Python's `re`.
    """
    if marks:
        table = character_classes(marks=False).copy()
        table[list(map(ord, combining_marks()))] |= MARK
        return table
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    characters = np.arange(ASSIGNED, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    for pattern, bit in ((r"\w+", WORD), (r"\s+", SPACE), (r"\d+", DIGIT)):
        for run in re.finditer(pattern, characters):
            table[run.start() : run.end()] |= bit
    for run in re.finditer(r"[^\W\d_]+", characters):
        if run.group().isalpha():
            table[run.start() : run.end()] |= ALPHA
        else:  # numbers that are not digits, such as fractions, among the letters
            table[[point for point in range(run.start(), run.end()) if characters[point].isalpha()]] |= ALPHA
    for members, bit in ((PUNCTUATION, PUNCT), (SENTENCE_TERMINALS, TERMINAL), (LINE_ENDS, LINE_END)):
        for character in members:
            table[ord(character)] |= bit
    return table


def buffers(text: pa.LargeStringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of a column and the offsets (documents + 1) of its documents, uncopied. Nulls are empty."""
    _, offsets, data = text.buffers()
    if not len(text):
        return np.zeros(1, np.uint8), np.zeros(1, np.int64)
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    raw = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return raw, bounds


@compiled(inline=True)
def decode(data: Any, i: Any) -> Any:
    """Return the code point that starts at byte i, and its size in bytes."""
    a = np.uint32(data[i])
    if a < 0x80:
        return a, 1
    if a < 0xE0:
        return ((a & 0x1F) << 6) | (np.uint32(data[i + 1]) & 0x3F), 2
    if a < 0xF0:
        return ((a & 0xF) << 12) | ((np.uint32(data[i + 1]) & 0x3F) << 6) | (np.uint32(data[i + 2]) & 0x3F), 3
    return (
        ((a & 7) << 18) | ((np.uint32(data[i + 1]) & 0x3F) << 12) | ((np.uint32(data[i + 2]) & 0x3F) << 6)
        | (np.uint32(data[i + 3]) & 0x3F)
    ), 4  # fmt: skip


@compiled(inline=True)
def decode_before(data: Any, i: Any) -> Any:
    """Return the code point that ends before byte i, and its size in bytes."""
    k = 1
    while data[i - k] & 0xC0 == 0x80:
        k += 1
    point, size = decode(data, i - k)
    return point, size


@compiled(inline=True)
def strip_left(data: Any, low: Any, high: Any, table: Any) -> Any:
    """Return the position of the first character that is not white space, or `high`."""
    while low < high:
        point, size = decode(data, low)
        if not table[point] & SPACE:
            break
        low += size
    return low


@compiled(inline=True)
def strip_right(data: Any, low: Any, high: Any, table: Any) -> Any:
    """Return the position after the last character that is not white space, or `low`."""
    while high > low:
        point, size = decode_before(data, high)
        if not table[point] & SPACE:
            break
        high -= size
    return high


@compiled(inline=True)
def count_characters(data: Any, low: Any, high: Any) -> Any:
    """Count the characters of a range of bytes."""
    count = 0
    for i in range(low, high):
        count += data[i] & 0xC0 != 0x80
    return count
