"""Split documents into words.

A word is a run of word characters, or a run of characters that are neither word characters nor white space. A combining
mark is of the same kind as the character before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.characters import ALPHA, MARK, PUNCT, SPACE, WORD, decode
from gptctl.text.kernels.compile import BYTES, COUNTS, NEW_BYTES, NEW_LENGTHS, OFFSETS, compiled

HAS_LETTER, ALL_PUNCTUATION = 1, 2


@compiled(BYTES, OFFSETS, BYTES, COUNTS, COUNTS)
def count_words(data: Any, offsets: Any, table: Any, words: Any, letters: Any) -> None:
    """Count the words of each document, and the bytes of these words."""
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        before = SPACE
        count = size_of_all = 0
        while i < end:
            point, size = decode(data, i)
            i += size
            entry = table[point]
            if size > 1 and entry & MARK and before != SPACE:  # the size is known where ASCII is decoded
                size_of_all += size
                continue
            kind = entry & (WORD | SPACE)
            if kind != SPACE:
                size_of_all += size
                count += kind != before
            before = kind
        words[d] = count
        letters[d] = size_of_all


@compiled(BYTES, OFFSETS, BYTES, NEW_BYTES, COUNTS)
def split_words(data: Any, offsets: Any, table: Any, joined: Any, starts: Any) -> None:
    """Write all words without anything between them into `joined`, and their bounds (words + 1) into `starts`."""
    word = byte = 0
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        before = SPACE
        while i < end:
            point, size = decode(data, i)
            kind = table[point] & (WORD | SPACE)
            if size > 1 and table[point] & MARK and before != SPACE:
                kind = before
            if kind != SPACE:
                if kind != before:
                    starts[word] = byte
                    word += 1
                for k in range(size):
                    joined[byte + k] = data[i + k]
                byte += size
            before = kind
            i += size
    starts[word] = byte


@compiled(BYTES, OFFSETS, BYTES, NEW_LENGTHS, NEW_BYTES)
def describe_words(joined: Any, starts: Any, table: Any, characters: Any, traits: Any) -> None:
    """Count the characters of each word, and note whether it has a letter and whether it is punctuation only."""
    for w in range(starts.size - 1):
        i, end = starts[w], starts[w + 1]
        count = 0
        some, every = np.uint8(0), np.uint8(255)
        while i < end:
            point, size = decode(joined, i)
            some |= table[point]
            every &= table[point]
            count += 1
            i += size
        characters[w] = count
        traits[w] = (HAS_LETTER if some & ALPHA else 0) | (ALL_PUNCTUATION if every & PUNCT else 0)


@compiled(BYTES, OFFSETS, OFFSETS, OFFSETS, BYTES, OFFSETS, COUNTS)
def count_stop_words(joined: Any, starts: Any, first: Any, last: Any, listed: Any, bounds: Any, found: Any) -> None:
    """Count how many different words of a short list (bytes of `listed`, separated at `bounds`) each document has."""
    count = bounds.size - 1
    longest = 0
    for s in range(count):
        longest = max(longest, bounds[s + 1] - bounds[s])
    seen = np.zeros(count, np.int64)
    for d in range(first.size):
        found[d] = 0
        for w in range(first[d], last[d]):
            low, size = starts[w], starts[w + 1] - starts[w]
            if size > longest:
                continue
            for s in range(count):
                if bounds[s + 1] - bounds[s] != size or seen[s] == d + 1:
                    continue
                k = 0
                while k < size and joined[low + k] == listed[bounds[s] + k]:
                    k += 1
                if k == size:
                    seen[s] = d + 1
                    found[d] += 1
                    break
            if found[d] == count:
                break
