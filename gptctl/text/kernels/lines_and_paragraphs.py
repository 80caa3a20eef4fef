"""Units of text, which are lines or paragraphs: hashing, finding and removing them.

Lines end at line feeds. Paragraphs are the lines between two blank ones. The units of a column that have at least
`min_chars` characters, not counting white space at the ends of lines, are numbered from 0; blank lines are not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gptctl.text.kernels.characters import count_characters, decode, strip_left, strip_right
from gptctl.text.kernels.compile import BYTES, COUNTS, NEW_BYTES, NUMBER, OFFSETS, compiled, types
from gptctl.text.kernels.hashing import hash_combine, mix
from gptctl.text.kernels.string_column import copy

LINE_FEED, DIGIT_ZERO = 10, 48
SEED = np.uint64(0x243F6A8885A308D3)  # the first 64 bits of pi's fraction: any number but 0 will do
FLAGS = types.Array(types.boolean, 1, "C", readonly=True)
KEYS = types.Array(types.uint64, 1, "C")
POINTS = types.Array(types.int32, 1, "C", readonly=True)


class Text(NamedTuple):
    """The bytes of a column, the kinds of characters, and which units are numbered."""

    data: Any
    kinds: Any
    paragraphs: Any
    min_chars: Any


@compiled()
def line_end(data: Any, start: Any, high: Any) -> Any:
    """Return where the line that begins at `start` ends."""
    while start < high and data[start] != LINE_FEED:
        start += 1
    return start


@compiled()
def visible_characters(data: Any, low: Any, high: Any, kinds: Any) -> Any:
    """Count the characters of a line, without white space at its ends."""
    low = strip_left(data, low, high, kinds)
    high = strip_right(data, low, high, kinds)
    return count_characters(data, low, high)


@compiled()
def find_unit(text: Any, start: Any, high: Any) -> Any:
    """Return where the unit that begins at `start` ends, and its number of characters, 0 for a blank line."""
    end = line_end(text.data, start, high)
    characters = visible_characters(text.data, start, end, text.kinds)
    if not text.paragraphs or not characters:
        return end, characters
    while end < high:
        next_end = line_end(text.data, end + 1, high)
        more = visible_characters(text.data, end + 1, next_end, text.kinds)
        if not more:
            break
        end = next_end
        characters += more
    return end, characters


@compiled(inline=True)
def hash_folded(data: Any, low: Any, high: Any, folded: Any, key: Any) -> Any:
    """Hash the folded code points of a line, each run of "0" as a single one."""
    before = np.int32(0)
    while low < high:
        point, size = decode(data, low)
        now = folded[point]
        if now != DIGIT_ZERO or before != DIGIT_ZERO:
            key = hash_combine(key, now)
        before = now
        low += size
    return key


@compiled()
def hash_unit(text: Any, start: Any, end: Any, folded: Any) -> Any:
    """Hash the lines of a unit without white space at their ends.

    The bytes are hashed, or if `folded` is not empty, the folded code points.
    """
    key = SEED
    while start <= end:
        stop = line_end(text.data, start, end)
        low = strip_left(text.data, start, stop, text.kinds)
        high = strip_right(text.data, low, stop, text.kinds)
        if folded.size:
            key = hash_folded(text.data, low, high, folded, key)
        else:
            for i in range(low, high):
                key = hash_combine(key, text.data[i])
        key = hash_combine(key, LINE_FEED)
        start = stop + 1
    return mix(key)


@compiled(BYTES, OFFSETS, BYTES, POINTS, NUMBER, NUMBER, KEYS, COUNTS)
def hash_units(
    data: Any, offsets: Any, kinds: Any, folded: Any, paragraphs: Any, min_chars: Any, keys: Any, total: Any
) -> None:
    """Write the hash of each numbered unit, and their number to total[0]."""
    text = Text(data, kinds, paragraphs, min_chars)
    number = 0
    for d in range(offsets.size - 1):
        start, high = offsets[d], offsets[d + 1]
        while start <= high:
            end, characters = find_unit(text, start, high)
            if characters and characters >= min_chars:
                keys[number] = hash_unit(text, start, end, folded)
                number += 1
            start = end + 1
    total[0] = number


@compiled(BYTES, OFFSETS, BYTES, NUMBER, NUMBER, OFFSETS, COUNTS, COUNTS)
def find_units(
    data: Any, offsets: Any, kinds: Any, paragraphs: Any, min_chars: Any, wanted: Any, begins: Any, ends: Any
) -> None:
    """Write where some units, given by ascending numbers, begin and end in `data`."""
    text = Text(data, kinds, paragraphs, min_chars)
    number = found = 0
    for d in range(offsets.size - 1):
        start, high = offsets[d], offsets[d + 1]
        while start <= high and found < wanted.size:
            end, characters = find_unit(text, start, high)
            if characters and characters >= min_chars:
                if number == wanted[found]:
                    begins[found], ends[found] = start, end
                    found += 1
                number += 1
            start = end + 1


@compiled(inline=True)
def append_lines(data: Any, low: Any, high: Any, is_first: Any, out: Any, at: Any) -> Any:
    """Copy lines, behind a line feed unless they are the first of the document, and return where they end."""
    if not is_first:
        out[at] = LINE_FEED
        at += 1
    return copy(data, low, high, out, at)


@compiled()
def copy_kept_units(text: Any, start: Any, high: Any, is_removed: Any, number: Any, out: Any, at: Any) -> Any:
    """Copy a document without its removed units. Return the number of the next unit, and where the copy ends.

    A gap consists of all blank and removed lines between two units that stay. If a unit of it was removed, only its
    first blank line is copied, or nothing if the gap is at the start or end of the document.
    """
    gap = blank = blank_end = np.int64(-1)  # where the gap and its first blank line begin; -1 if there is none
    shrinks = False
    is_first = True
    while start <= high:
        end, characters = find_unit(text, start, high)
        is_numbered = characters and characters >= text.min_chars
        removed = is_numbered and is_removed[number]
        number += is_numbered != 0
        if removed or not characters:
            if gap < 0:
                gap = start
            if removed:
                shrinks = True
            elif blank < 0:
                blank, blank_end = start, end
        else:
            if shrinks and blank >= 0 and not is_first:
                at = append_lines(text.data, blank, blank_end, is_first, out, at)
            elif gap >= 0 and not shrinks:
                at = append_lines(text.data, gap, start - 1, is_first, out, at)
                is_first = False
            at = append_lines(text.data, start, end, is_first, out, at)
            is_first = shrinks = False
            gap = blank = np.int64(-1)
        start = end + 1
    if gap >= 0 and not shrinks:
        at = append_lines(text.data, gap, high, is_first, out, at)
    return number, at


@compiled(BYTES, OFFSETS, BYTES, NUMBER, NUMBER, FLAGS, NEW_BYTES, COUNTS)
def remove_units(
    data: Any, offsets: Any, kinds: Any, paragraphs: Any, min_chars: Any, is_removed: Any, out: Any, out_offsets: Any
) -> None:
    """Write all documents without the units that `is_removed` marks by number."""
    text = Text(data, kinds, paragraphs, min_chars)
    number = at = 0
    out_offsets[0] = 0
    for d in range(offsets.size - 1):
        number, at = copy_kept_units(text, offsets[d], offsets[d + 1], is_removed, number, out, at)
        out_offsets[d + 1] = at
