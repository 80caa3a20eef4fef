"""Random numbers that depend on what they are for, never on when or where they are drawn."""

from __future__ import annotations

import xxhash


def derive(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed for one purpose, e.g. derive(seed, "dropout", step, micro_batch).

    The same arguments give the same number on every machine, process and worker count.
    """
    return xxhash.xxh64_intdigest("\x1f".join(str(part) for part in (seed, *parts)).encode()) >> 1


def unit_hash(salt: str, key: bytes) -> float:
    """Place `key` in [0, 1) evenly and for good: adding data never moves it (used by the splits)."""
    return xxhash.xxh64_intdigest(salt.encode() + b"\x1f" + key) / 2.0**64
