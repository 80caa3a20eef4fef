"""Lines and paragraphs that stand earlier in the input too: their keys, and texts without them.

Unlike the filter `repeated_lines`, which looks for what many documents of one task have, every occurrence but the first
goes, wherever in the input it stands.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Unit = Literal["line", "paragraph"]


def keys(
    text: pa.LargeStringArray, unit: Unit, min_chars: int, fold: bool = False
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the key of each line or paragraph, and its position: its number among those of this column, from 0.

    White space at the ends of lines is neither compared nor counted; lines without anything else are blank, and a
    paragraph is the lines between two blank ones. What has fewer than `min_chars` characters has no key and no number.
    `fold`: upper and lower case are equal, and so are all runs of digits. A null has no lines.

    Two different lines have equal keys with odds of 2**-64: among 10**9 different ones, any two with 1 in 37. One core
    does 180 to 280 MB/s.
    """
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.spans import hash_units

    data, offsets = buffers(text)
    found, total = np.empty(_most_units(data, offsets), np.uint64), np.empty(1, np.int64)
    folded = _folded() if fold else np.empty(0, np.int32)
    hash_units(data, offsets, kinds(), folded, int(unit == "paragraph"), min_chars, found, total)
    return found[: total[0]], np.arange(total[0])


def remove(
    text: pa.LargeStringArray, unit: Unit, min_chars: int, duplicates: NDArray[np.int64]
) -> tuple[pa.LargeStringArray, int, int]:
    """Drop the lines or paragraphs at some positions; give the new column, how many went, and bytes it is shorter by.

    The positions, each named once, are those that `keys` gave for the same column, unit and `min_chars`. What stays
    keeps its order and indentation. Where something went at most one blank line is left, at a document's start or end
    none. A document without anything else is then the empty text. Nulls stay null.

    Raises IndexError for positions that no unit can have.
    """
    if not len(duplicates):
        return text, 0, 0
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.spans import column, drop_units

    data, offsets = buffers(text)
    gone = np.zeros(_most_units(data, offsets), np.bool_)
    gone[duplicates] = True
    size = int(offsets[-1] - offsets[0])
    out, bounds = np.empty(max(1, size), np.uint8), np.empty(len(offsets), np.int64)
    drop_units(data, offsets, kinds(), int(unit == "paragraph"), min_chars, gone, out, bounds)
    return column(text, bounds, out), len(duplicates), size - int(bounds[-1])


def at(text: pa.LargeStringArray, unit: Unit, min_chars: int, positions: NDArray[np.int64]) -> list[str]:
    """Return the lines or paragraphs at some positions, which are those that `keys` gives."""
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.spans import find_units

    data, offsets = buffers(text)
    order = np.argsort(positions)
    begins, ends = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    find_units(data, offsets, kinds(), int(unit == "paragraph"), min_chars, positions[order], begins, ends)
    back = np.argsort(order)
    bounds = zip(begins[back].tolist(), ends[back].tolist(), strict=True)
    return [data[begin:end].tobytes().decode() for begin, end in bounds]


def _most_units(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> int:
    """Count all lines, blank ones too: there are no more units."""
    return int(np.count_nonzero(data[offsets[0] : offsets[-1]] == ord("\n"))) + len(offsets)


@cache
def _folded() -> NDArray[np.int32]:
    """Give each code point in lower case, if that is one code point, and 0 for any digit."""
    from gptctl.text.kernels.characters import ASSIGNED, DIGIT, kinds

    table = np.arange(sys.maxunicode + 1, dtype=np.int32)
    for point in range(ASSIGNED):
        lower = chr(point).lower()
        if len(lower) == 1:
            table[point] = ord(lower)
    table[kinds() & DIGIT != 0] = ord("0")
    return table
