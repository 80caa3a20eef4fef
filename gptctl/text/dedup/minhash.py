"""MinHash signatures and LSH bands: similar documents get equal band keys with a probability that rises steeply.

Broder 1997, "On the resemblance and containment of documents"; banding as in Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", section 3.4. Signatures are bit for bit those of datasketch 2.0 (scheme "affine32") for the upper
halves of the same shingles' hashes. No shingle becomes a Python object, so 500 words take 10 us instead of 410.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.errors import UsageError
from gptctl.text.dedup import exact, shingles
from gptctl.text.dedup.shingles import Shingling

# Text that is hashed at once: its shingles take up to eight times as much memory.
CHUNK_BYTES = 4 * 2**20
# An odd number with well-mixed bits: 2**64 divided by the golden ratio.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Banding(NamedTuple):
    """How a signature is cut: into `bands` of `rows` values each."""

    bands: int
    rows: int


def signatures(
    text: pa.LargeStringArray, num_perm: int, shingling: Shingling, seed: int
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Return the signature of each document, shape (n, num_perm), and which documents are short.

    A short document has fewer than `shingling.ngram` words or characters, so it has no shingle. Its signature is all
    ones, and it must be compared by its exact text.
    """
    from gptctl.text.kernels.shingles import compute_signatures

    multipliers, increments = permutations(num_perm, seed)
    values = np.empty((len(text), num_perm), np.uint32)
    is_short = np.empty(len(text), np.bool_)
    for start, end in chunks(text):
        hashes, counts = shingles.hashes(text.slice(start, end - start), shingling)
        compute_signatures(hashes, shingles.to_offsets(counts), multipliers, increments, values[start:end])
        is_short[start:end] = counts == 0
    return values, is_short


@cache
def permutations(num_perm: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the multipliers, all odd, and the increments that datasketch draws for a seed.

    datasketch itself is not imported: it imports scipy, which takes 0.4 s in each worker. Only the lower 32 bits of the
    seed are used.
    """
    random = np.random.RandomState(seed % 2**32)
    multipliers = random.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return multipliers, random.randint(0, 1 << 32, num_perm, dtype=np.uint32)


def chunks(text: pa.LargeStringArray) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows whose text is about CHUNK_BYTES long."""
    sizes = pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(text):
        base = ends[start - 1] if start else 0
        end = max(int(np.searchsorted(ends, base + CHUNK_BYTES, "right")), start + 1)
        yield start, end
        start = end


def optimal_banding(threshold: float, num_perm: int) -> Banding:
    """Return the banding with the fewest expected errors, by datasketch's rule.

    Errors are false positives and false negatives, equally weighted and integrated over all similarities. Raises
    UsageError (2) if there is none.
    """
    from datasketch import MinHashLSH

    try:
        index = MinHashLSH(threshold=threshold, num_perm=num_perm)
    except ValueError as error:
        message = f"no bands fit a threshold of {threshold} and {num_perm} permutations: {error}"
        raise UsageError(message, "raise num_perm, or lower the threshold") from error
    return Banding(index.b, index.r)


def choose_banding(threshold: float, num_perm: int, bands: int | None = None) -> Banding:
    """Return a banding of `bands` bands with as many rows as the signature allows, or else the optimal one.

    Raises UsageError (2) for a number of bands that `num_perm` does not allow.
    """
    if bands is None:
        return optimal_banding(threshold, num_perm)
    if not 1 <= bands <= num_perm:
        message = f"{num_perm} permutations cannot be cut into {bands} bands"
        raise UsageError(message, f"choose 1 to {num_perm} bands, or raise num_perm")
    return Banding(bands, num_perm // bands)


def candidate_probability(similarity: npt.ArrayLike, banding: Banding) -> NDArray[np.float64]:
    """Return the probability that documents of a given similarity share a band: 1 - (1 - s**rows)**bands."""
    return np.asarray(1 - (1 - np.asarray(similarity, np.float64) ** banding.rows) ** banding.bands)


def band_keys(values: NDArray[np.uint32], banding: Banding) -> NDArray[np.uint64]:
    """Hash each band of each signature, together with the band's number, to 64 bits: shape (n, bands).

    Keys of different bands are equal with a probability of 2**-64, so all bands can be sorted together.
    """
    bands, rows = banding
    parts = values[:, : bands * rows].reshape(len(values), bands, rows)
    keys = _hash_combine(np.zeros((len(values), 1), np.uint64), np.arange(1, bands + 1, dtype=np.uint64))
    for row in range(rows):
        keys = _hash_combine(keys, parts[:, :, row])
    return keys


def document_keys(
    text: pa.LargeStringArray, num_perm: int, shingling: Shingling, seed: int, banding: Banding
) -> NDArray[np.uint64]:
    """Return the band keys of each document, shape (n, bands). The keys of a short document are made of its text."""
    values, is_short = signatures(text, num_perm, shingling, seed)
    keys = band_keys(values, banding)
    if is_short.any():
        exact_keys = exact.keys(text.filter(pa.array(is_short)))[:, :1]
        keys[is_short] = _hash_combine(exact_keys, np.arange(1, banding.bands + 1, dtype=np.uint64))
    return keys


def _hash_combine(keys: NDArray[np.uint64], values: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Mix one more value into each key."""
    mixed = (keys ^ values) * MULTIPLIER
    mixed ^= mixed >> np.uint64(32)
    return np.asarray(mixed)
