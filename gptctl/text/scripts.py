"""The letters of scripts that are written without spaces between words, and of Hangul, and counting them.

The ranges contain the letters and numbers (`str.isalnum`) of Unicode's scripts. OTHER are the scripts whose line
breaks need a dictionary (Unicode Standard Annex 14, class SA) besides Thai, and Tibetan.
"""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.arrow_arrays import string_buffers

# The first byte in UTF-8 of characters of three bytes or more, and of U+2000 to U+2FFF.
FIRST_OF_THREE, PUNCTUATION = 0xE0, 0xE2
NONE, HAN, KANA, THAI, OTHER, HANGUL = range(6)
UNSPACED = (HAN, KANA, THAI, OTHER)
_RANGES = {
    HAN: (
        (0x3005, 0x3005), (0x3007, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF), (0x16FE3, 0x16FE3), (0x20000, 0x3FFFF),
    ),
    KANA: ((0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F),
           (0x1AFF0, 0x1B16F)),
    THAI: ((0x0E00, 0x0E7F),),
    OTHER: (
        (0x0E80, 0x0FFF), (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0x1780, 0x17FF),  # Lao to Khmer
        (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0xAA80, 0xAADF), (0x11700, 0x1174F),  # Tai Le to Tai Viet; Ahom
    ),
    HANGUL: ((0xAC00, 0xD7A3),),
}  # fmt: skip


@cache
def script_table() -> NDArray[np.uint8]:
    """Return the script of each of the 1,114,112 code points: HAN and so on, or NONE."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    for script, ranges in _RANGES.items():
        for first, last in ranges:
            table[[point for point in range(first, last + 1) if chr(point).isalnum()]] = script
    return table


def letters_of(*scripts: int) -> str:
    """Return the letters of some scripts, sorted by code point."""
    return "".join(map(chr, np.flatnonzero(np.isin(script_table(), scripts)).tolist()))


def count_letters(text: pa.LargeStringArray) -> NDArray[np.int64]:
    """Count the letters of each script in each document, shape (documents, 6). Column NONE has no meaning.

    A column of Latin text needs no pass over its characters, because the letters counted take three bytes or more, and
    do not begin with E2 as typographic punctuation does.
    """
    counts = np.zeros((len(text), len(_RANGES) + 1), np.int64)
    if not len(text):
        return counts
    offsets, data = string_buffers(text)
    used = data[offsets[0] : offsets[-1]]
    if used.size and used.max() >= FIRST_OF_THREE and _has_letters(used):
        from gptctl.text.kernels.scripts import count_scripts

        count_scripts(data, offsets, script_table(), counts)
    return counts


def _has_letters(used: NDArray[np.uint8]) -> bool:
    """Return whether some byte is FIRST_OF_THREE or larger, and not PUNCTUATION."""
    # XOR turns these bytes into 1 to 31, PUNCTUATION into 0, and smaller bytes into 32 and more.
    difference = used ^ np.uint8(PUNCTUATION)
    difference -= np.uint8(1)
    return bool(difference.min() < 31)
