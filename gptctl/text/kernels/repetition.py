"""Measure how much of each document repeats itself: paragraphs, lines, and n-grams of words.

An n-gram of 5 to 10 words is a range of the joined bytes of all words; its hash is the difference of two values of a
running polynomial hash. An n-gram of 2 to 4 words is a pair of numbers: that of the (n-1)-gram and that of a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.characters import count_characters, strip_left, strip_right
from gptctl.text.kernels.compile import BYTES, FIGURE_ROWS, FIGURES_OF_ONE, LENGTHS, OFFSETS, compiled
from gptctl.text.kernels.hash_tables import duplicate_pieces, most_line_feeds, power_of_two, same_bytes
from gptctl.text.kernels.hashing import BASE, INVERSE, mix

LINE_FEED = 10
# The figures: characters; share of duplicate paragraphs, and of characters in them; the same for lines; share of
# characters in the most frequent 2-gram, 3-gram and 4-gram; share of characters in duplicate 5-grams to 10-grams.
FIGURES = 14


@compiled()
def split_at_line_feeds(data: Any, low: Any, high: Any, run: Any, lows: Any, highs: Any) -> Any:
    """Split a text at `run` or more consecutive line feeds; return the number of pieces, which is at least one."""
    count = 0
    start = i = low
    while i < high:
        if data[i] != LINE_FEED:
            i += 1
            continue
        end = i
        while i < high and data[i] == LINE_FEED:
            i += 1
        if i - end >= run:
            lows[count], highs[count] = start, end
            count += 1
            start = i
    lows[count], highs[count] = start, high
    return count + 1


@compiled()
def number_words(joined: Any, starts: Any, first: Any, last: Any, hashes: Any, shifts: Any, numbers: Any, slots: Any,
                 stamps: Any, stamp: Any) -> None:  # fmt: skip
    """Number the words of a document in the order of their first occurrence, and fill its running hashes.

    hashes[k] is the sum of byte times BASE**position up to word k; shifts[k] is BASE**-position at word k.
    """
    count = last - first
    key, power, shift = np.uint64(0), np.uint64(1), np.uint64(1)
    for k in range(count):
        hashes[k], shifts[k] = key, shift
        for i in range(starts[first + k], starts[first + k + 1]):
            key += (np.uint64(joined[i]) + np.uint64(1)) * power
            power *= BASE
            shift *= INVERSE
    hashes[count] = key
    mask = power_of_two(2 * count) - 1
    known = 0
    for k in range(count):
        low, size = starts[first + k], starts[first + k + 1] - starts[first + k]
        place = np.int64(mix((hashes[k + 1] - hashes[k]) * shifts[k]) & np.uint64(mask))
        while stamps[place] == stamp:
            q = first + slots[place]
            if starts[q + 1] - starts[q] == size and same_bytes(joined, starts[q], low, size):
                break
            place = (place + 1) & mask
        if stamps[place] == stamp:
            numbers[k] = numbers[slots[place]]
        else:
            slots[place], stamps[place] = k, stamp
            numbers[k] = known
            known += 1


@compiled()
def most_frequent(numbers: Any, grams: Any, count: Any, n: Any, keys: Any, slots: Any, stamps: Any, stamp: Any,
              times: Any) -> Any:  # fmt: skip
    """Return how often the most frequent n-gram occurs and where it first occurs; the first one wins a tie.

    `grams[k]` is the number of the (n-1)-gram at word k; it is replaced by the number of the n-gram.
    """
    mask = power_of_two(2 * count) - 1
    known = 0
    best = at = 0
    for k in range(count - n + 1):
        key = (np.uint64(grams[k]) << np.uint64(32)) | np.uint64(numbers[k + n - 1])
        place = np.int64(mix(key) & np.uint64(mask))
        while stamps[place] == stamp and keys[place] != key:
            place = (place + 1) & mask
        if stamps[place] != stamp:
            stamps[place], keys[place], slots[place] = stamp, key, known
            times[known, 0], times[known, 1] = 0, k
            known += 1
        grams[k] = slots[place]
        times[grams[k], 0] += 1
    for g in range(known):
        if times[g, 0] > best:
            best, at = times[g, 0], times[g, 1]
    return best, at


@compiled()
def repeated_characters(joined: Any, starts: Any, first: Any, count: Any, n: Any, hashes: Any, shifts: Any,
                        ends: Any, slots: Any, stamps: Any, stamp: Any) -> Any:  # fmt: skip
    """Count the characters of n-grams that occurred before, from left to right without overlap."""
    mask = power_of_two(2 * count) - 1
    characters = k = 0
    while k + n <= count:
        key = (hashes[k + n] - hashes[k]) * shifts[k]
        low, size = starts[first + k], starts[first + k + n] - starts[first + k]
        place = np.int64(mix(key) & np.uint64(mask))
        while stamps[place] == stamp:
            q = slots[place]
            if (
                (hashes[q + n] - hashes[q]) * shifts[q] == key
                and starts[first + q + n] - starts[first + q] == size
                and same_bytes(joined, starts[first + q], low, size)
            ):
                break
            place = (place + 1) & mask
        if stamps[place] == stamp:
            characters += ends[k + n] - ends[k]
            k += n
        else:
            slots[place], stamps[place] = k, stamp
            k += 1
    return characters


@compiled(BYTES, OFFSETS, BYTES, BYTES, OFFSETS, LENGTHS, OFFSETS, OFFSETS, FIGURES_OF_ONE, FIGURE_ROWS)
def measure_repetition(data: Any, offsets: Any, table: Any, joined: Any, starts: Any, lengths: Any, first: Any,
                       last: Any, limits: Any, figures: Any) -> None:  # fmt: skip
    """Fill the figures (documents, 14). After the first one above its limit, a document's figures are NaN."""
    most = 0
    for d in range(first.size):
        most = max(most, last[d] - first[d])
    pieces = most_line_feeds(data, offsets) + 1
    lows, highs = np.empty(pieces, np.int64), np.empty(pieces, np.int64)
    size = power_of_two(2 * max(most, pieces))
    slots, stamps, keys = np.empty(size, np.int32), np.zeros(size, np.int32), np.empty(size, np.uint64)
    hashes, shifts, ends = np.empty(most + 1, np.uint64), np.empty(most + 1, np.uint64), np.empty(most + 1, np.int64)
    numbers, grams, times = np.empty(most, np.int32), np.empty(most, np.int32), np.empty((most, 2), np.int32)
    stamp = 0
    for d in range(first.size):
        low, high = offsets[d], offsets[d + 1]
        characters = count_characters(data, low, high)
        figures[d, :] = 0
        figures[d, 0] = characters
        if not characters:
            continue
        figures[d, 1:] = np.nan
        stripped_low = strip_left(data, low, high, table)
        stripped_high = strip_right(data, stripped_low, high, table)
        count = split_at_line_feeds(data, stripped_low, stripped_high, 2, lows, highs)
        stamp += 1
        repeated, repeated_length = duplicate_pieces(data, lows, highs, count, slots, stamps, stamp)
        figures[d, 1], figures[d, 2] = repeated / count, repeated_length / characters
        if figures[d, 1] > limits[1] or figures[d, 2] > limits[2]:
            continue
        count = split_at_line_feeds(data, low, high, 1, lows, highs)
        stamp += 1
        repeated, repeated_length = duplicate_pieces(data, lows, highs, count, slots, stamps, stamp)
        figures[d, 3], figures[d, 4] = repeated / count, repeated_length / characters
        if figures[d, 3] > limits[3] or figures[d, 4] > limits[4]:
            continue
        words = last[d] - first[d]
        stamp += 1
        number_words(joined, starts, first[d], last[d], hashes, shifts, numbers, slots, stamps, stamp)
        ends[0] = 0
        for k in range(words):
            ends[k + 1] = ends[k] + lengths[first[d] + k]
            grams[k] = numbers[k]
        fails = False
        for n in range(2, 5):
            figures[d, 3 + n] = 0
            if words >= n:
                stamp += 1
                most_often, at = most_frequent(numbers, grams, words, n, keys, slots, stamps, stamp, times)
                figures[d, 3 + n] = (ends[at + n] - ends[at] + n - 1) * most_often / characters
            fails = figures[d, 3 + n] > limits[3 + n]
            if fails:
                break
        for n in range(5, 11):
            if fails:
                break
            stamp += 1
            found = repeated_characters(joined, starts, first[d], words, n, hashes, shifts, ends, slots, stamps, stamp)
            figures[d, 3 + n] = found / characters
            fails = figures[d, 3 + n] > limits[3 + n]
