"""Random numbers that depend only on their purpose, not on when or where they are drawn."""

from __future__ import annotations

import xxhash


def derive(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed for one purpose, e.g. derive(seed, "dropout", step, micro_batch).

    The same arguments return the same seed on every machine, in every process and with every worker count.
    """
    return xxhash.xxh64_intdigest("\x1f".join(str(part) for part in (seed, *parts)).encode()) >> 1


def unit_hash(salt: str, key: bytes) -> float:
    """Map `key` to a number in [0, 1), evenly distributed. Added data never changes it, so the splits use it."""
    return xxhash.xxh64_intdigest(salt.encode() + b"\x1f" + key) / 2.0**64
