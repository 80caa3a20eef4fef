"""64-bit hashes for kernels: of bytes and code points one after the other, and mixing the bits of a key."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.compile import compiled

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's 64 bits
BASE = np.uint64(0xD6E8FEB86659FD93)  # any odd number will do
INVERSE = np.uint64(pow(0xD6E8FEB86659FD93, -1, 2**64))


@compiled(inline=True)
def hash_combine(key: Any, value: Any) -> Any:
    """Mix one more value into a hash. Different values give different hashes for the same key."""
    key = (key ^ np.uint64(value)) * MULTIPLIER
    return key ^ (key >> np.uint64(32))


@compiled(inline=True)
def mix(key: Any) -> Any:
    """Spread the bits of a 64-bit key over its low bits."""
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
