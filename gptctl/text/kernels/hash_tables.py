"""Hash tables for kernels, which find the pieces of a text that are equal. Equal hashes are confirmed byte by byte.

A table consists of two arrays: `slots` holds what is stored, and a slot counts only if its entry in `stamps` is the
current stamp. So a table is emptied by increasing the stamp. Sizes are powers of two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.compile import compiled
from gptctl.text.kernels.hashing import hash_range

LINE_FEED = 10


@compiled(inline=True)
def same_bytes(data: Any, a: Any, b: Any, size: Any) -> Any:
    """Return whether two ranges of bytes are equal."""
    for i in range(size):
        if data[a + i] != data[b + i]:
            return False
    return True


@compiled(inline=True)
def power_of_two(minimum: Any) -> Any:
    """Return the smallest power of two, 16 or more, that is not below `minimum`."""
    size = 16
    while size < minimum:
        size *= 2
    return size


@compiled()
def duplicate_pieces(data: Any, lows: Any, highs: Any, count: Any, slots: Any, stamps: Any, stamp: Any) -> Any:
    """Count the pieces that repeat an earlier one, and their characters."""
    mask = power_of_two(2 * count) - 1
    repeated = characters = 0
    for p in range(count):
        low, size = lows[p], highs[p] - lows[p]
        slot = np.int64(hash_range(data, low, highs[p]) & np.uint64(mask))
        while stamps[slot] == stamp:
            q = slots[slot]
            if highs[q] - lows[q] == size and same_bytes(data, lows[q], low, size):
                break
            slot = (slot + 1) & mask
        if stamps[slot] == stamp:
            repeated += 1
            for i in range(low, highs[p]):
                characters += data[i] & 0xC0 != 0x80
        else:
            slots[slot] = p
            stamps[slot] = stamp
    return repeated, characters


@compiled()
def most_line_feeds(data: Any, offsets: Any) -> Any:
    """Return the largest number of line feeds in a document. A document has at most one more piece than that."""
    most = 0
    for d in range(offsets.size - 1):
        count = 0
        for i in range(offsets[d], offsets[d + 1]):
            count += data[i] == LINE_FEED
        most = max(most, count)
    return most
