"""Hash tables for kernels: which pieces of a text are equal. Equal hashes are followed by a comparison of the bytes.

A table is two arrays, `slots` (what is stored, by place) and `stamps` (a place counts only where its stamp is the
current one), so that a table is emptied by counting the stamp up. Sizes are powers of two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.compile import compiled

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's 64 bits
BASE = np.uint64(0xD6E8FEB86659FD93)  # any odd number will do
LINE_FEED = 10
INVERSE = np.uint64(pow(0xD6E8FEB86659FD93, -1, 2**64))


@compiled(inline=True)
def mix(key: Any) -> Any:
    """Spread a 64-bit key over its low bits."""
    key = (key ^ (key >> np.uint64(32))) * MULTIPLIER
    return key ^ (key >> np.uint64(29))


@compiled(inline=True)
def hash_range(data: Any, low: Any, high: Any) -> Any:
    """Hash a range of bytes."""
    key = np.uint64(high - low)
    for i in range(low, high):
        key = (key ^ np.uint64(data[i])) * MULTIPLIER
        key ^= key >> np.uint64(32)
    return key


@compiled(inline=True)
def same_bytes(data: Any, a: Any, b: Any, size: Any) -> Any:
    """Return whether two ranges of bytes are equal."""
    for i in range(size):
        if data[a + i] != data[b + i]:
            return False
    return True


@compiled(inline=True)
def power_of_two(least: Any) -> Any:
    """Return the smallest power of two that is not below `least`."""
    size = 16
    while size < least:
        size *= 2
    return size


@compiled()
def duplicate_pieces(data: Any, lows: Any, highs: Any, count: Any, slots: Any, stamps: Any, stamp: Any) -> Any:
    """Count the pieces that repeat an earlier one, and their characters."""
    mask = power_of_two(2 * count) - 1
    repeated = characters = 0
    for p in range(count):
        low, size = lows[p], highs[p] - lows[p]
        place = np.int64(hash_range(data, low, highs[p]) & np.uint64(mask))
        while stamps[place] == stamp:
            q = slots[place]
            if highs[q] - lows[q] == size and same_bytes(data, lows[q], low, size):
                break
            place = (place + 1) & mask
        if stamps[place] == stamp:
            repeated += 1
            for i in range(low, highs[p]):
                characters += data[i] & 0xC0 != 0x80
        else:
            slots[place] = p
            stamps[place] = stamp
    return repeated, characters


@compiled()
def most_line_feeds(data: Any, offsets: Any) -> Any:
    """Return the largest number of line feeds in a document: how many pieces there can be is that and one."""
    most = 0
    for d in range(offsets.size - 1):
        count = 0
        for i in range(offsets[d], offsets[d + 1]):
            count += data[i] == LINE_FEED
        most = max(most, count)
    return most
