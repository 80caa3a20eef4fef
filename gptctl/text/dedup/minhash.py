"""MinHash: documents whose sets of word n-grams overlap by a share s get equal keys with a probability steep in s.

Broder 1997, "On the resemblance and containment of documents"; bands as in Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", section 3.4. Signatures are those of datasketch 2.0 (scheme "affine32") for the same shingle
hashes, bit for bit, computed over whole columns: about eight times as fast, as no shingle becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from gptctl.core.errors import UsageError
from gptctl.text.dedup import exact

# Text per step: its words and shingles take about ten times as much memory.
CHUNK_BYTES = 4 * 2**20
# Shingles per reduction: 256 kB of hashes and as much work space stay in the second-level cache.
CHUNK_SHINGLES = 1 << 16
# An odd number with well-mixed bits: 2**64 divided by the golden ratio.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Written without spaces between words: each character counts as a word, else a page would be one.
UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}])"


def signatures(
    text: pa.LargeStringArray, num_perm: int, ngram: int, seed: int
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Give each document's signature, shape (n, num_perm), and which documents are short.

    A document with fewer than `ngram` words has no n-gram: it is marked short, its signature is all ones, and it must
    be compared by its exact text.
    """
    multipliers, increments = permutations(num_perm, seed)
    values = np.full((len(text), num_perm), np.iinfo(np.uint32).max, np.uint32)
    short = np.ones(len(text), np.bool_)
    for first, last in chunks(text):
        shingles, counts = shingle_hashes(text.slice(first, last - first), ngram)
        short[first:last] = counts == 0
        mixed = _finalise(shingles)
        rows = first + np.flatnonzero(counts)
        ends = np.cumsum(counts[counts > 0])
        _minima(mixed, ends, multipliers, increments, rows, values)
    return values, short


def permutations(num_perm: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Give the multipliers and increments that datasketch draws for a seed."""
    from datasketch import MinHash

    multipliers, increments = MinHash(num_perm=num_perm, seed=seed, scheme="affine32").permutations
    return multipliers, increments


def shingle_hashes(text: pa.LargeStringArray, ngram: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Hash each document's word n-grams: all hashes in a row, and how many each document has.

    Each different word is hashed once; an n-gram's hash is the upper half of a polynomial of its words' hashes.
    """
    words = split_words(text)
    bounds = words.offsets.to_numpy().astype(np.int64)
    flat = words.values.slice(bounds[0], bounds[-1] - bounds[0]).dictionary_encode()
    unique = np.fromiter((xxhash.xxh64_intdigest(word.as_buffer()) for word in flat.dictionary), np.uint64)
    hashes = unique[flat.indices.to_numpy()] if len(unique) else unique
    windows = max(len(hashes) - ngram + 1, 0)
    mixed = hashes[:windows].copy()
    for place in range(1, ngram):
        mixed *= MULTIPLIER
        mixed += hashes[place : place + windows]
    counts = np.maximum(np.diff(bounds) - ngram + 1, 0)
    # Windows that reach into the next document are left out.
    inside = np.arange(counts.sum()) + np.repeat(bounds[:-1] - bounds[0] - (np.cumsum(counts) - counts), counts)
    return (mixed[inside] >> np.uint64(32)).astype(np.uint32), counts


def split_words(text: pa.LargeStringArray) -> pa.ListArray:
    """Give each document's words in lower case, letters and digits only."""
    lower = pc.utf8_lower(pc.fill_null(text, ""))
    if pc.any(pc.match_substring_regex(lower, UNSPACED)).as_py():
        lower = pc.replace_substring_regex(lower, UNSPACED, r" \1 ")
    plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(lower, r"[^\pL\pN]+", " "))
    words = pc.split_pattern(plain, " ")
    # An empty text splits into one empty word.
    return pc.if_else(pc.equal(plain, ""), pa.scalar([], words.type), words)


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


def _finalise(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Mix bits with MurmurHash3's 32-bit finaliser (Appleby, public domain), as datasketch does before permuting."""
    mixed = hashes ^ (hashes >> np.uint32(16))
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _minima(
    hashes: NDArray[np.uint32],
    ends: NDArray[np.int64],
    multipliers: NDArray[np.uint32],
    increments: NDArray[np.uint32],
    rows: NDArray[np.int64],
    values: NDArray[np.uint32],
) -> None:
    """Write each document's least permuted hash into `values`; document i's hashes end at ends[i]."""
    first = 0
    while first < len(ends):
        base = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, base + CHUNK_SHINGLES, "right")), first + 1)
        part = hashes[base : ends[last - 1]]
        starts = np.concatenate(([0], ends[first : last - 1] - base))
        work = np.empty_like(part)
        for place, (multiplier, increment) in enumerate(zip(multipliers, increments, strict=True)):
            np.multiply(part, multiplier, out=work)
            np.add(work, increment, out=work)
            values[rows[first:last], place] = np.minimum.reduceat(work, starts)
        first = last


def bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """Give the number of bands and of rows in each that make the fewest expected errors, by datasketch's rule.

    Errors are false positives and false negatives, equally weighted and integrated over all similarities.
    """
    from datasketch import MinHashLSH

    try:
        index = MinHashLSH(threshold=threshold, num_perm=num_perm)
    except ValueError as error:
        message = f"no bands fit a threshold of {threshold} and {num_perm} permutations: {error}"
        raise UsageError(message, "raise num_perm, or lower the threshold") from error
    return index.b, index.r


def band_keys(values: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.uint64]:
    """Hash each band of each signature to 64 bits, shape (n, bands). Compare keys of one band only with each other."""
    parts = values[:, : bands * rows].reshape(len(values), bands, rows)
    keys = np.zeros((len(values), bands), np.uint64)
    for row in range(rows):
        keys ^= parts[:, :, row]
        keys *= MULTIPLIER
        keys ^= keys >> np.uint64(32)
    return keys


def document_keys(
    text: pa.LargeStringArray, num_perm: int, ngram: int, seed: int, bands: int, rows: int
) -> NDArray[np.uint64]:
    """Give each document's band keys, shape (n, bands); a short document's keys are those of its exact text."""
    values, short = signatures(text, num_perm, ngram, seed)
    keys = band_keys(values, bands, rows)
    if short.any():
        keys[short] = exact.keys(text.filter(pa.array(short)))[:, :1]
    return keys


def jaccard(text_a: str, text_b: str, ngram: int) -> float:
    """Give the exact share of their word n-grams that two texts have in common: |A & B| / |A | B|, 0 without any."""
    first, second = (
        _shingles(words, ngram) for words in split_words(pa.array([text_a, text_b], pa.large_string())).to_pylist()
    )
    union = len(first | second)
    return len(first & second) / union if union else 0.0


def _shingles(words: list[str], ngram: int) -> set[tuple[str, ...]]:
    return set(zip(*(words[place:] for place in range(ngram)), strict=False))
