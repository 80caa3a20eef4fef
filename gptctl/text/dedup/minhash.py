"""MinHash: documents whose sets of shingles overlap by a share s get equal keys with a probability steep in s.

Broder 1997, "On the resemblance and containment of documents"; bands as in Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", section 3.4. Signatures are those of datasketch 2.0 (scheme "affine32") for the upper halves of the
same shingles' hashes, bit for bit. As no shingle becomes a Python object, 500 words take 10 us instead of 410.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.errors import UsageError
from gptctl.text.dedup import exact, shingles
from gptctl.text.dedup.shingles import Shingling

# Text per step: its shingles take up to eight times as much memory.
CHUNK_BYTES = 4 * 2**20
# An odd number with well-mixed bits: 2**64 divided by the golden ratio.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def signatures(
    text: pa.LargeStringArray, num_perm: int, how: Shingling, seed: int
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Give each document's signature, shape (n, num_perm), and which documents are short.

    A document with fewer than `how.ngram` words or characters has no shingle: it is marked short, its signature is all
    ones, and it must be compared by its exact text.
    """
    from gptctl.text.kernels.shingles import sign

    multipliers, increments = permutations(num_perm, seed)
    values = np.empty((len(text), num_perm), np.uint32)
    short = np.empty(len(text), np.bool_)
    for first, last in chunks(text):
        hashes, counts = shingles.hashes(text.slice(first, last - first), how)
        sign(hashes, shingles.bounds(counts), multipliers, increments, values[first:last])
        short[first:last] = counts == 0
    return values, short


@cache
def permutations(num_perm: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the multipliers, all odd, and the increments that datasketch draws for a seed, without importing it.

    That would import scipy: 0.4 s for each worker. Of a seed of more than 32 bits, these are taken.
    """
    draws = np.random.RandomState(seed % 2**32)
    multipliers = draws.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return multipliers, draws.randint(0, 1 << 32, num_perm, dtype=np.uint32)


def chunks(text: pa.LargeStringArray) -> Iterator[tuple[int, int]]:
    """Cut a column into ranges of documents of about CHUNK_BYTES."""
    sizes = pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    first = 0
    while first < len(text):
        base = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, base + CHUNK_BYTES, "right")), first + 1)
        yield first, last
        first = last


def bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """Return the number of bands and of rows in each that make the fewest expected errors, by datasketch's rule.

    Errors are false positives and false negatives, equally weighted and integrated over all similarities.
    """
    from datasketch import MinHashLSH

    try:
        index = MinHashLSH(threshold=threshold, num_perm=num_perm)
    except ValueError as error:
        message = f"no bands fit a threshold of {threshold} and {num_perm} permutations: {error}"
        raise UsageError(message, "raise num_perm, or lower the threshold") from error
    return index.b, index.r


def cut(threshold: float, num_perm: int, count: int | None = None) -> tuple[int, int]:
    """Return the number of bands and of rows in each: `count` bands of as many rows as there are, or the best ones."""
    if count is None:
        return bands(threshold, num_perm)
    if not 1 <= count <= num_perm:
        message = f"{num_perm} permutations cannot be cut into {count} bands"
        raise UsageError(message, f"choose 1 to {num_perm} bands, or raise num_perm")
    return count, num_perm // count


def s_curve(similarity: npt.ArrayLike, bands: int, rows: int) -> NDArray[np.float64]:
    """Return the probability that documents of a similarity share a band: 1 - (1 - s**rows)**bands."""
    return np.asarray(1 - (1 - np.asarray(similarity, np.float64) ** rows) ** bands)


def band_keys(values: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.uint64]:
    """Hash each band of each signature, with the band's number, to 64 bits: shape (n, bands).

    Keys of different bands differ, but for odds of 1 / 2**64: they may be sorted together.
    """
    parts = values[:, : bands * rows].reshape(len(values), bands, rows)
    keys = _absorb(np.zeros((len(values), 1), np.uint64), np.arange(1, bands + 1, dtype=np.uint64))
    for row in range(rows):
        keys = _absorb(keys, parts[:, :, row])
    return keys


def document_keys(
    text: pa.LargeStringArray, num_perm: int, how: Shingling, seed: int, bands: int, rows: int
) -> NDArray[np.uint64]:
    """Give each document's band keys, shape (n, bands); a short document's keys are made of its exact text."""
    values, short = signatures(text, num_perm, how, seed)
    keys = band_keys(values, bands, rows)
    if short.any():
        whole = exact.keys(text.filter(pa.array(short)))[:, :1]
        keys[short] = _absorb(whole, np.arange(1, bands + 1, dtype=np.uint64))
    return keys


def _absorb(keys: NDArray[np.uint64], values: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Take a value into each key."""
    mixed = (keys ^ values) * MULTIPLIER
    mixed ^= mixed >> np.uint64(32)
    return np.asarray(mixed)
