"""Keys that are equal for equal texts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from gptctl.text.dedup import shingles
from gptctl.text.dedup.shingles import Shingling


def keys(text: pa.LargeStringArray) -> NDArray[np.uint64]:
    """Hash each document's exact bytes with xxh3-128: shape (n, 2), the high half first. A null is as the empty text.

    128 bits: among 10**12 different texts, two share a key by chance in one of 10**14 corpora.
    """
    data = memoryview(text.buffers()[2] or b"")
    offsets = _offsets(text)
    digests = b"".join(xxhash.xxh3_128_digest(data[start:end]) for start, end in pairwise(offsets))
    return np.frombuffer(digests, ">u8").astype(np.uint64).reshape(len(text), 2)


def normalized_keys(text: pa.LargeStringArray) -> NDArray[np.uint64]:
    """Hash each document's normalised words in their order: shape (n, 2).

    Keys are equal for texts that differ only in case, punctuation and white space; a text without any word keeps the
    key of its bytes. Two independent mixes of 64 bits each; the words go in as 64-bit hashes of their own.
    """
    from gptctl.text.kernels.shingles import fold

    words, counts = shingles.hashes(text, Shingling(ngram=1))
    found = np.empty((len(text), 2), np.uint64)
    fold(words, shingles.bounds(counts), found)
    wordless = counts == 0
    if wordless.any():
        found[wordless] = keys(text)[wordless]
    return found


def _offsets(text: pa.LargeStringArray) -> list[int]:
    """Return where each document starts in the data buffer, and where the last one ends."""
    if not len(text):
        return [0]
    offsets: list[int] = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1].tolist()
    return offsets
