"""Windows of a fixed number of words: hashing and removing them.

Words are those of `gptctl.text.words`, except that each letter of a script without spaces is a word of its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptctl.text.kernels.characters import MARK, SPACE, WORD, character_classes, decode
from gptctl.text.kernels.compile import BYTES, COUNTS, NEW_BYTES, NUMBER, OFFSETS, compiled, types
from gptctl.text.kernels.hashing import BASE, hash_combine, mix
from gptctl.text.kernels.string_column import copy
from gptctl.text.scripts import UNSPACED, script_table

LINE_FEED, BLANK = 10, 32
SINGLE = 4  # the kind of a letter that is a word of its own
SEED = np.uint64(0x243F6A8885A308D3)  # the first 64 bits of pi's fraction: any number but 0 will do
SECOND_BASE = np.uint64(0xBF58476D1CE4E5B9)  # odd, and unlike BASE
KEYS = types.Array(types.uint64, 1, "C")


class Words(NamedTuple):
    """The words of a document: where each begins and ends, and its hash. The arrays are reused for all documents."""

    begins: Any
    ends: Any
    hashes: Any


@cache
def word_kinds() -> NDArray[np.uint8]:
    """Return the kind of each of the 1,114,112 code points: bits WORD, SPACE, MARK and SINGLE."""
    table = character_classes() & np.uint8(WORD | SPACE | MARK)
    table[np.isin(script_table(), UNSPACED) & (table & MARK == 0)] = SINGLE
    return table


@compiled(BYTES, OFFSETS, BYTES, COUNTS)
def count_words(data: Any, offsets: Any, kinds: Any, counts: Any) -> None:
    """Count the words of each document."""
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        before = SPACE
        counts[d] = 0
        while i < end:
            point, size = decode(data, i)
            entry = kinds[point]
            kind = before if entry & MARK and before != SPACE else entry & ~MARK
            counts[d] += kind != SPACE and (kind != before or entry == SINGLE)
            before = kind
            i += size


@compiled(inline=True)
def allocate_words(counts: Any) -> Any:
    """Return arrays for the document with the most words, and that number."""
    most = 0
    for d in range(counts.size):
        most = max(most, counts[d])
    return Words(np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.uint64)), most


@compiled()
def read_words(data: Any, low: Any, high: Any, kinds: Any, words: Any) -> None:
    """Find the words of a document."""
    word = 0
    before = SPACE
    key = SEED
    i = low
    while i < high:
        point, size = decode(data, i)
        entry = kinds[point]
        kind = before if entry & MARK and before != SPACE else entry & ~MARK
        if kind != before or entry == SINGLE:
            if before != SPACE:
                words.ends[word], words.hashes[word] = i, mix(key)
                word += 1
            if kind != SPACE:
                words.begins[word] = i
                key = SEED
        if kind != SPACE:
            key = hash_combine(key, point)
        before = kind
        i += size
    if before != SPACE:
        words.ends[word], words.hashes[word] = high, mix(key)


@compiled()
def roll(hashes: Any, count: Any, length: Any, keys: Any, first: Any) -> None:
    """Write the hash of each window of `length` words of a document into `keys`, from `first` on.

    A key mixes two polynomials modulo 2**64. One alone is weak for windows that differ only in the order of words: its
    low bits hardly depend on it.
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
def hash_windows(data: Any, offsets: Any, kinds: Any, counts: Any, length: Any, keys: Any, positions: Any) -> None:
    """Write the hash of each window of `length` words inside a document, and the number of its first word.

    `counts` are the words of each document. Words are numbered over all documents.
    """
    words, _ = allocate_words(counts)
    word = window = 0
    for d in range(counts.size):
        count = counts[d]
        if count >= length:
            read_words(data, offsets[d], offsets[d + 1], kinds, words)
            roll(words.hashes, count, length, keys, window)
            for k in range(count - length + 1):
                positions[window + k] = word + k
            window += count - length + 1
        word += count


@compiled()
def overlaps_first(keys: Any, is_repeat: Any, window: Any, length: Any) -> Any:
    """Return whether a window overlaps the first one that is equal to it, so that the text repeats itself there."""
    for earlier in range(max(0, window - length + 1), window):
        if keys[earlier] == keys[window] and not is_repeat[earlier]:
            return True
    return False


@compiled(inline=True)
def line_feeds(data: Any, low: Any, high: Any) -> Any:
    """Count the line feeds of a range."""
    count = 0
    for i in range(low, high):
        count += data[i] == LINE_FEED
    return count


@compiled(inline=True)
def indentation(data: Any, low: Any, high: Any) -> Any:
    """Return where the last line of a range of white space begins, or the end of the range if it has no line feed."""
    start = high
    while start > low and data[start - 1] != LINE_FEED:
        start -= 1
    return start if start > low else high


@compiled()
def close_gap(data: Any, words: Any, span: Any, stop: Any, out: Any, at: Any) -> Any:
    """Write the white space that stays between two words; return from where to copy on, and where the output ends.

    The words from `span` to before `stop` are removed. Of the white space before and after them, the one with more line
    feeds stays, the latter if both have as many. If there is none, it is a space.
    """
    low, middle = words.ends[span - 1], words.begins[span]
    after, high = words.ends[stop - 1], words.begins[stop]
    if after < high and line_feeds(data, low, middle) <= line_feeds(data, after, high):
        return after, at
    if low == middle:
        out[at] = BLANK
        return high, at + 1
    return high, copy(data, low, middle, out, at)


@compiled()
def remove_document_windows(
    data: Any, bounds: Any, words: Any, count: Any, windows: Any, length: Any, out: Any, at: Any
) -> Any:
    """Copy a document without the words of its windows; return where the copy ends, and the number of spans removed.

    `bounds` is where the document begins and ends. `windows` are the numbers of their first words, ascending. A span
    consists of windows that overlap or touch.
    """
    copied, high = bounds
    spans = w = 0
    while w < windows.size:
        span = windows[w]
        stop = span + length
        w += 1
        while w < windows.size and windows[w] <= stop:
            stop = windows[w] + length
            w += 1
        spans += 1
        if span:
            at = copy(data, copied, words.ends[span - 1], out, at)
        if stop == count:
            copied = high
        elif span:
            copied, at = close_gap(data, words, span, stop, out, at)
        else:
            copied = indentation(data, words.ends[stop - 1], words.begins[stop])
    return copy(data, copied, high, out, at), spans


@compiled()
def select_windows(keys: Any, is_repeat: Any, windows: Any, length: Any, selected: Any) -> Any:
    """Write the windows of a document that do not overlap the first one equal to them, and return their number."""
    for w in range(windows.size):
        is_repeat[windows[w]] = True
    count = 0
    for w in range(windows.size):
        if not overlaps_first(keys, is_repeat, windows[w], length):
            selected[count] = windows[w]
            count += 1
    for w in range(windows.size):
        is_repeat[windows[w]] = False
    return count


@compiled(BYTES, OFFSETS, BYTES, OFFSETS, NUMBER, OFFSETS, NEW_BYTES, COUNTS, COUNTS)
def remove_windows(
    data: Any, offsets: Any, kinds: Any, counts: Any, length: Any, windows: Any, out: Any, out_offsets: Any, total: Any
) -> None:
    """Write all documents without the words of some windows, and the number of spans removed to total[0].

    Windows are given by the numbers of their first words, as `hash_windows` numbers them, ascending. A window stays if
    it overlaps the first one that is equal to it.
    """
    words, most = allocate_words(counts)
    keys, is_repeat = np.empty(most, np.uint64), np.zeros(most, np.bool_)
    selected = np.empty(most, np.int64)
    word = at = spans = w = 0
    out_offsets[0] = 0
    for d in range(counts.size):
        low, high, count = offsets[d], offsets[d + 1], counts[d]
        first = w
        while w < windows.size and windows[w] < word + count:
            w += 1
        if first < w:
            read_words(data, low, high, kinds, words)
            roll(words.hashes, count, length, keys, 0)
            chosen = select_windows(keys, is_repeat, windows[first:w] - word, length, selected)
            at, removed = remove_document_windows(data, (low, high), words, count, selected[:chosen], length, out, at)
            spans += removed
        else:
            at = copy(data, low, high, out, at)
        out_offsets[d + 1] = at
        word += count
    total[0] = spans
