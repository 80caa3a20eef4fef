"""Lines and paragraphs: their keys, and removing some of them from documents.

Unlike the filter `repeated_lines`, which looks for lines that many documents of one task share, this finds every
occurrence but the first, wherever in the input it is.
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

    White space at the ends of lines is neither compared nor counted. Lines without any other character are blank, and a
    paragraph consists of the lines between two blank ones. Units of fewer than `min_chars` characters have no key and
    no position. With `fold`, upper and lower case are equal, and so are all runs of digits. A null has no lines.

    Two different lines have equal keys with a probability of 2**-64: among 10**9 different lines, any two do with a
    probability of 1 in 37. One core hashes 180 to 280 MB/s.
    """
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.lines_and_paragraphs import hash_units

    data, offsets = buffers(text)
    values, total = np.empty(_max_units(data, offsets), np.uint64), np.empty(1, np.int64)
    folded = _folded_code_points() if fold else np.empty(0, np.int32)
    hash_units(data, offsets, character_classes(), folded, int(unit == "paragraph"), min_chars, values, total)
    return values[: total[0]], np.arange(total[0])


def remove(
    text: pa.LargeStringArray, unit: Unit, min_chars: int, positions: NDArray[np.int64]
) -> tuple[pa.LargeStringArray, int, int]:
    """Return the column without some lines or paragraphs, how many were removed, and how many bytes it is shorter.

    `positions`, each given once, are those that `keys` returned for the same column, unit and `min_chars`. The rest
    keeps its order and indentation. Where text was removed, at most one blank line remains, and none at the start or
    end of a document. A document of which nothing is left becomes the empty text. Nulls stay null.

    Raises IndexError for a position that no unit can have.
    """
    if not len(positions):
        return text, 0, 0
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.lines_and_paragraphs import remove_units
    from gptctl.text.kernels.string_column import string_column

    data, offsets = buffers(text)
    is_removed = np.zeros(_max_units(data, offsets), np.bool_)
    is_removed[positions] = True
    size = int(offsets[-1] - offsets[0])
    new_data, new_offsets = np.empty(max(1, size), np.uint8), np.empty(len(offsets), np.int64)
    remove_units(
        data, offsets, character_classes(), int(unit == "paragraph"), min_chars, is_removed, new_data, new_offsets
    )
    return string_column(text, new_offsets, new_data), len(positions), size - int(new_offsets[-1])


def texts_at(text: pa.LargeStringArray, unit: Unit, min_chars: int, positions: NDArray[np.int64]) -> list[str]:
    """Return the lines or paragraphs at some positions, as `keys` numbers them."""
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.lines_and_paragraphs import find_units

    data, offsets = buffers(text)
    order = np.argsort(positions)
    starts, ends = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    find_units(data, offsets, character_classes(), int(unit == "paragraph"), min_chars, positions[order], starts, ends)
    original = np.argsort(order)
    bounds = zip(starts[original].tolist(), ends[original].tolist(), strict=True)
    return [data[start:end].tobytes().decode() for start, end in bounds]


def _max_units(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> int:
    """Return the number of lines, blank ones included, which is an upper bound of the number of units."""
    return int(np.count_nonzero(data[offsets[0] : offsets[-1]] == ord("\n"))) + len(offsets)


@cache
def _folded_code_points() -> NDArray[np.int32]:
    """Return the lower case of each code point, if that is one code point, and "0" for each digit."""
    from gptctl.text.kernels.characters import ASSIGNED, DIGIT, character_classes

    table = np.arange(sys.maxunicode + 1, dtype=np.int32)
    for point in range(ASSIGNED):
        lower = chr(point).lower()
        if len(lower) == 1:
            table[point] = ord(lower)
    table[character_classes() & DIGIT != 0] = ord("0")
    return table
