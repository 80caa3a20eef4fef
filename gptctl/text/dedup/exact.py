"""Keys of whole texts: equal texts have equal keys."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from gptctl.text.dedup import shingles
from gptctl.text.dedup.shingles import Shingling


def keys(text: pa.LargeStringArray) -> NDArray[np.uint64]:
    """Hash the bytes of each document with xxh3-128: shape (n, 2), the high half first. A null is hashed as "".

    With 128 bits, two of 10**12 different texts share a key in one of 10**14 corpora.
    """
    data = memoryview(text.buffers()[2] or b"")
    digests = b"".join(xxhash.xxh3_128_digest(data[start:end]) for start, end in pairwise(_offsets(text)))
    return np.frombuffer(digests, ">u8").astype(np.uint64).reshape(len(text), 2)


def normalized_keys(text: pa.LargeStringArray) -> NDArray[np.uint64]:
    """Hash the normalized words of each document, in their order: shape (n, 2).

    Texts that differ only in case, punctuation and white space have equal keys. A text without any word has the key of
    its bytes. Each half is an independent 64-bit hash of the words' 64-bit hashes.
    """
    from gptctl.text.kernels.shingles import hash_sequences

    words, counts = shingles.hashes(text, Shingling(ngram=1, segment=False))
    result = np.empty((len(text), 2), np.uint64)
    hash_sequences(words, shingles.to_offsets(counts), result)
    has_no_word = counts == 0
    if has_no_word.any():
        result[has_no_word] = keys(text)[has_no_word]
    return result


def _offsets(text: pa.LargeStringArray) -> list[int]:
    """Return the offset in the data buffer at which each document starts, and the end of the last one."""
    if not len(text):
        return [0]
    offsets: list[int] = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1].tolist()
    return offsets
