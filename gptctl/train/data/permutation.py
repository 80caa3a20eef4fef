"""The random order of samples: a keyed permutation, computed for any index alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gptctl.core.seeds import derive

ROUNDS = 6  # of the Feistel network; 4 suffice in theory (Luby and Rackoff 1988), and more cost nothing here


def shuffled_samples(first_index: int, count: int, size: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield (epoch, sample) for `count` global indices: each epoch visits its `size` samples in a new order."""
    indices = np.arange(first_index, first_index + count)
    for epoch in np.unique(indices // size).tolist():
        positions = indices[indices // size == epoch] % size
        yield from ((epoch, sample) for sample in permute(positions, size, derive(seed, "order", epoch)).tolist())


def permute(indices: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Return the images of indices under a keyed permutation of [0, size), in constant memory.

    A Feistel network permutes the next power of four. An image outside the range is permuted again until it is inside
    (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", cycle walking).
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    keys = [np.uint64(derive(key, "round", number)) for number in range(ROUNDS)]
    values = indices.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & low
        for round_key in keys:
            left, right = right, left ^ (mix_bits(right ^ round_key) & low)
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= size
    return values.astype(np.int64)


def mix_bits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64 bits (the finalizer of SplitMix64; Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
