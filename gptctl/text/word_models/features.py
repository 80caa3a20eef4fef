"""The hashed n-grams of words by which a document is described."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.text.arrow_arrays import string_buffers
from gptctl.text.kernels import ngrams
from gptctl.text.kernels.shingles import CODE_POINT, EXTEND, SINGLE, code_point_table


@dataclass(frozen=True)
class Features:
    """The n-grams of some documents. Document i has buckets[offsets[i]:offsets[i + 1]], each once."""

    buckets: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def hash_texts(text: pa.LargeStringArray, n: int, buckets: int) -> Features:
    """Return the n-grams of 1 to n words of each text; `buckets` is a power of two.

    A word is a run of letters and digits in lower case. In scripts without spaces, each letter is a word.
    """
    offsets, data = string_buffers(pc.fill_null(text, ""))
    found = np.empty(ngrams.room_for_ngrams(n, len(text), int(offsets[-1] - offsets[0])), np.int32)
    ends = np.zeros(len(text) + 1, np.int64)
    ngrams.hash_ngrams(data, offsets, code_point_table(normalize=True), n, buckets, found, ends[1:])
    return Features(found[: ends[-1]], ends)


def join(parts: list[Features]) -> Features:
    """Return the n-grams of several groups of documents as one."""
    ends = np.cumsum([0, *(len(part.buckets) for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, ends, strict=False)]
    return Features(np.concatenate([part.buckets for part in parts]), np.concatenate([[0], *offsets]).astype(np.int64))


def words_of(text: str) -> list[str]:
    """Return the words of a text, as its n-grams are made from them. This is slow, and meant for a single text."""
    table = code_point_table(normalize=True)
    words: list[list[str]] = []
    inside = is_single = False
    for character in text:
        point = ord(character)
        entry = int(table[point])
        if point >= 128 and entry & SINGLE:
            words.append([character])
            inside, is_single = False, True
        elif is_single and entry & EXTEND:
            words[-1].append(character)
        elif entry and (point < 128 or inside or not entry & EXTEND):
            if not inside:
                words.append([])
            words[-1].append(chr(entry & CODE_POINT))
            inside, is_single = True, False
        else:
            inside = is_single = False
    return ["".join(word) for word in words]


def ngrams_of(text: str, n: int) -> dict[str, int]:
    """Return the different n-grams of 1 to n words of a text, joined by blanks, and how many words each has."""
    words = words_of(text)
    spans = ((start, size) for start in range(len(words)) for size in range(1, min(n, len(words) - start) + 1))
    return {" ".join(words[start : start + size]): size for start, size in spans}
