"""Lines, paragraphs and runs of words that stand elsewhere too: their keys, and texts without them.

Lines end at line feeds; paragraphs are the lines between two blank ones. Words are those of `gptctl.text.words`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.text.kernels.characters import SPACE, WORD, count_characters, decode, strip_left, strip_right
from gptctl.text.kernels.compile import BYTES, COUNTS, NEW_BYTES, NUMBER, OFFSETS, compiled, types
from gptctl.text.kernels.tables import BASE, MULTIPLIER, mix

LINE_FEED, BLANK, ZERO = 10, 32, 48
SEED = np.uint64(0x243F6A8885A308D3)  # the first 64 bits of pi's fraction: any number but 0 will do
SECOND_BASE = np.uint64(0xBF58476D1CE4E5B9)  # odd, and unlike BASE
FLAGS = types.Array(types.boolean, 1, "C", readonly=True)
KEYS = types.Array(types.uint64, 1, "C")
POINTS = types.Array(types.int32, 1, "C", readonly=True)


def column(text: pa.LargeStringArray, bounds: NDArray[np.int64], data: NDArray[np.uint8]) -> pa.LargeStringArray:
    """Make a column of what a kernel has written: document i is data[bounds[i]:bounds[i + 1]]. Nulls stay null."""
    size = int(bounds[-1])
    made = pa.LargeStringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(data[:size]))
    return pc.if_else(text.is_valid(), made, pa.scalar(None, pa.large_string())) if text.null_count else made


@compiled(inline=True)
def add(key: Any, value: Any) -> Any:
    """Hash one byte or code point more."""
    key = (key ^ np.uint64(value)) * MULTIPLIER
    return key ^ (key >> np.uint64(32))


@compiled(inline=True)
def copy(data: Any, low: Any, high: Any, out: Any, at: Any) -> Any:
    """Copy a range of bytes to `at`; give where it ends there."""
    for i in range(low, high):
        out[at + i - low] = data[i]
    return at + high - low


@compiled()
def line_end(data: Any, start: Any, high: Any) -> Any:
    """Return where the line that starts here ends."""
    while start < high and data[start] != LINE_FEED:
        start += 1
    return start


@compiled()
def visible_characters(data: Any, low: Any, high: Any, table: Any) -> Any:
    """Count a line's characters without white space at its ends."""
    low = strip_left(data, low, high, table)
    high = strip_right(data, low, high, table)
    return count_characters(data, low, high)


@compiled()
def find_unit(data: Any, start: Any, high: Any, table: Any, paragraphs: Any) -> Any:
    """Return where the line or paragraph that starts here ends, and its characters: 0 for a blank line."""
    end = line_end(data, start, high)
    characters = visible_characters(data, start, end, table)
    if not paragraphs or not characters:
        return end, characters
    while end < high:
        following = line_end(data, end + 1, high)
        more = visible_characters(data, end + 1, following, table)
        if not more:
            break
        end = following
        characters += more
    return end, characters


@compiled()
def unit_key(data: Any, start: Any, end: Any, table: Any, folded: Any) -> Any:
    """Hash lines without white space at their ends; with a table `folded`, of folded code points, runs of "0" as one.

    Folding is compared by code point, else bytes are.
    """
    key = SEED
    while start <= end:
        stop = line_end(data, start, end)
        low = strip_left(data, start, stop, table)
        high = strip_right(data, low, stop, table)
        if folded.size:
            before = np.int32(0)
            while low < high:
                point, size = decode(data, low)
                now = folded[point]
                if now != ZERO or before != ZERO:
                    key = add(key, now)
                before = now
                low += size
        else:
            for i in range(low, high):
                key = add(key, data[i])
        key = add(key, LINE_FEED)
        start = stop + 1
    return mix(key)


@compiled(BYTES, OFFSETS, BYTES, POINTS, NUMBER, NUMBER, KEYS, COUNTS)
def hash_units(
    data: Any, offsets: Any, table: Any, folded: Any, paragraphs: Any, least: Any, keys: Any, total: Any
) -> None:
    """Hash all lines, or paragraphs, of at least `least` characters; total[0] is how many there are."""
    unit = 0
    for d in range(offsets.size - 1):
        start, high = offsets[d], offsets[d + 1]
        while start <= high:
            end, characters = find_unit(data, start, high, table, paragraphs)
            if characters and characters >= least:
                keys[unit] = unit_key(data, start, end, table, folded)
                unit += 1
            start = end + 1
    total[0] = unit


@compiled(BYTES, OFFSETS, BYTES, NUMBER, NUMBER, OFFSETS, COUNTS, COUNTS)
def find_units(
    data: Any, offsets: Any, table: Any, paragraphs: Any, least: Any, wanted: Any, begins: Any, ends: Any
) -> None:
    """Fill in where some units, ascending numbers as `hash_units` counts, begin and end in `data`."""
    unit = found = 0
    for d in range(offsets.size - 1):
        start, high = offsets[d], offsets[d + 1]
        while start <= high and found < wanted.size:
            end, characters = find_unit(data, start, high, table, paragraphs)
            if characters and characters >= least:
                if unit == wanted[found]:
                    begins[found], ends[found] = start, end
                    found += 1
                unit += 1
            start = end + 1


@compiled(BYTES, OFFSETS, BYTES, NUMBER, NUMBER, FLAGS, NEW_BYTES, COUNTS)
def drop_units(
    data: Any, offsets: Any, table: Any, paragraphs: Any, least: Any, gone: Any, out: Any, bounds: Any
) -> None:
    """Write all documents without the units marked in `gone`, which are numbered as `hash_units` does.

    A gap is all blank and dropped lines between two units that stay. Where something went it shrinks to its first
    blank line, if it has one; at a document's start or end, to nothing.
    """
    unit = at = 0
    bounds[0] = 0
    for d in range(offsets.size - 1):
        start, high = offsets[d], offsets[d + 1]
        gap = blank = blank_end = np.int64(-1)  # where the gap and its first blank line start; -1: none
        shrinks = some = False
        while start <= high:
            end, characters = find_unit(data, start, high, table, paragraphs)
            counted = characters and characters >= least
            dropped = counted and gone[unit]
            unit += counted != 0
            if dropped or not characters:
                if gap < 0:
                    gap = start
                if dropped:
                    shrinks = True
                elif blank < 0:
                    blank, blank_end = start, end
            else:
                if shrinks and some and blank >= 0:
                    out[at] = LINE_FEED
                    at = copy(data, blank, blank_end, out, at + 1)
                elif gap >= 0 and not shrinks:
                    if some:
                        out[at] = LINE_FEED
                        at += 1
                    at = copy(data, gap, start - 1, out, at)
                    some = True
                if some:
                    out[at] = LINE_FEED
                    at += 1
                at = copy(data, start, end, out, at)
                some = True
                gap = blank = np.int64(-1)
                shrinks = False
            start = end + 1
        if gap >= 0 and not shrinks:
            if some:
                out[at] = LINE_FEED
                at += 1
            at = copy(data, gap, high, out, at)
        bounds[d + 1] = at


@compiled()
def read_words(data: Any, low: Any, high: Any, table: Any, begins: Any, ends: Any, hashes: Any) -> None:
    """Find a document's words: where each begins and ends, and its hash."""
    word = 0
    before = SPACE
    key = SEED
    i = low
    while i < high:
        point, size = decode(data, i)
        kind = table[point] & (WORD | SPACE)
        if kind != before:
            if before != SPACE:
                ends[word], hashes[word] = i, mix(key)
                word += 1
            if kind != SPACE:
                begins[word] = i
                key = SEED
        if kind != SPACE:
            key = add(key, point)
        before = kind
        i += size
    if before != SPACE:
        ends[word], hashes[word] = high, mix(key)


@compiled()
def roll(hashes: Any, count: Any, length: Any, keys: Any, first: Any) -> None:
    """Hash each run of `length` words of a document into `keys`, from `first` on.

    A key mixes two polynomials modulo 2**64. One alone is weak for runs that differ in their order only: its low bits
    hardly depend on it.
    """
    top, second_top = np.uint64(1), np.uint64(1)
    for _ in range(length):
        top *= BASE
        second_top *= SECOND_BASE
    a, b = np.uint64(0), np.uint64(0)
    for k in range(count):
        a = a * BASE + hashes[k]
        b = b * SECOND_BASE + mix(hashes[k])
        if k >= length:
            a -= hashes[k - length] * top
            b -= mix(hashes[k - length]) * second_top
        if k >= length - 1:
            keys[first + k - length + 1] = mix(a ^ mix(b))


@compiled(BYTES, OFFSETS, BYTES, OFFSETS, NUMBER, KEYS, COUNTS)
def hash_windows(data: Any, offsets: Any, table: Any, counts: Any, length: Any, keys: Any, positions: Any) -> None:
    """Hash all runs of `length` words inside a document, and say which of all documents' words each starts with.

    `counts`: each document's words.
    """
    most = 0
    for d in range(counts.size):
        most = max(most, counts[d])
    begins, ends, hashes = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.uint64)
    word = window = 0
    for d in range(counts.size):
        count = counts[d]
        if count >= length:
            read_words(data, offsets[d], offsets[d + 1], table, begins, ends, hashes)
            roll(hashes, count, length, keys, window)
            for k in range(count - length + 1):
                positions[window + k] = word + k
            window += count - length + 1
        word += count


@compiled()
def overlaps_first(keys: Any, marked: Any, window: Any, length: Any) -> Any:
    """Return whether the first of all windows equal to this one reaches into it: the text repeats itself there."""
    for earlier in range(max(0, window - length + 1), window):
        if keys[earlier] == keys[window] and not marked[earlier]:
            return True
    return False


@compiled(inline=True)
def line_feeds(data: Any, low: Any, high: Any) -> Any:
    """Count the line feeds of a range."""
    count = 0
    for i in range(low, high):
        count += data[i] == LINE_FEED
    return count


@compiled()
def cut(data: Any, copied: Any, begins: Any, ends: Any, count: Any, span: Any, stop: Any, high: Any, out: Any,
        at: Any) -> Any:  # fmt: skip
    """Copy a document from `copied` to the words before `span`, and a seam; give from where to copy on, and `at`.

    The words from `span` to before `stop` go. Of the white space before and after them that with more line feeds
    stays, of equals the latter; where there is none, a blank. At a document's start, indentation stays.
    """
    if span:
        at = copy(data, copied, ends[span - 1], out, at)
    if stop == count:
        return high, at
    after = ends[stop - 1]
    if not span:
        copied = begins[stop]
        while copied > after and data[copied - 1] != LINE_FEED:
            copied -= 1
        return copied if copied > after else begins[stop], at
    low, middle = ends[span - 1], begins[span]
    if after < begins[stop] and line_feeds(data, low, middle) <= line_feeds(data, after, begins[stop]):
        return after, at
    if low == middle:
        out[at] = BLANK
        return begins[stop], at + 1
    return begins[stop], copy(data, low, middle, out, at)


@compiled(BYTES, OFFSETS, BYTES, OFFSETS, NUMBER, OFFSETS, NEW_BYTES, COUNTS, COUNTS)
def cut_windows(
    data: Any, offsets: Any, table: Any, counts: Any, length: Any, windows: Any, out: Any, bounds: Any, total: Any
) -> None:
    """Write all documents without the words of some windows, given by their first words; total[0] counts the spans.

    Windows that overlap or touch go as one span. A window stays whose first equal overlaps it.
    """
    most = 0
    for d in range(counts.size):
        most = max(most, counts[d])
    begins, ends, hashes = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.uint64)
    keys, marked = np.empty(most, np.uint64), np.zeros(most, np.bool_)
    word = at = spans = w = 0
    bounds[0] = 0
    for d in range(counts.size):
        low, high, count = offsets[d], offsets[d + 1], counts[d]
        first = w
        while w < windows.size and windows[w] < word + count:
            marked[windows[w] - word] = True
            w += 1
        if first < w:
            read_words(data, low, high, table, begins, ends, hashes)
            roll(hashes, count, length, keys, 0)
            span = stop = np.int64(-1)
            for v in range(first, w):
                window = windows[v] - word
                if overlaps_first(keys, marked, window, length):
                    continue
                if window > stop or span < 0:
                    if span >= 0:
                        low, at = cut(data, low, begins, ends, count, span, stop, high, out, at)
                    span = window
                    spans += 1
                stop = window + length
            if span >= 0:
                low, at = cut(data, low, begins, ends, count, span, stop, high, out, at)
            for v in range(first, w):
                marked[windows[v] - word] = False
        at = copy(data, low, high, out, at)
        bounds[d + 1] = at
        word += count
    total[0] = spans
