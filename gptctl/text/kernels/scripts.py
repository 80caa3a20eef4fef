"""Counting the letters of scripts that are written without spaces between words."""

from __future__ import annotations

from typing import Any

from gptctl.text.kernels.characters import decode
from gptctl.text.kernels.compile import BYTES, COUNT_ROWS, OFFSETS, compiled
from gptctl.text.scripts import FIRST_OF_THREE


@compiled(BYTES, OFFSETS, BYTES, COUNT_ROWS)
def count_scripts(data: Any, offsets: Any, table: Any, counts: Any) -> None:
    """Add the letters of each document to the counts of their scripts."""
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        while i < end:
            while i < end and data[i] < FIRST_OF_THREE:  # one or two bytes, or the end of a character
                i += 1
            if i < end:
                point, size = decode(data, i)
                counts[d, table[point]] += 1
                i += size
