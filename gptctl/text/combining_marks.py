"""The characters that belong to the letter before them, and classes of characters for regular expressions.

This module needs no compiled kernels, which take memory.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from itertools import groupby

VOWELS_AM, JOINERS = "\u0e33\u0eb3", "\u200c\u200d"


@cache
def combining_marks() -> str:
    """Return all characters that belong to the letter before them, sorted by code point.

    They are the combining marks (general category M), the vowels AM of Thai and Lao, which Unicode Standard Annex 29
    counts among them, and the two joiners. These shape the letters around them, as in Persian, Sinhala and Malayalam,
    and separate no words (rule WB4).
    """
    candidates = map(chr, (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)))  # the last are variation selectors
    return "".join(c for c in candidates if c in VOWELS_AM + JOINERS or unicodedata.category(c)[0] == "M")


def character_class(characters: str) -> str:
    """Return some characters, sorted by code point, as ranges for a class of a regular expression."""
    parts = []
    for _, run in groupby(enumerate(map(ord, characters)), lambda item: item[1] - item[0]):
        points = [point for _, point in run]
        parts.append(f"\\U{points[0]:08x}-\\U{points[-1]:08x}")
    return "".join(parts)
