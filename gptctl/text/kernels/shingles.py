"""Hashes of words, characters and their n-grams, and what is made of them: signatures, keys, shares in common.

A word's hash takes in its code points one by one; an n-gram's is a polynomial of its words' hashes, whose bits are then
mixed. The polynomial of the next n-gram follows from that of the last by one word in and one out, for any n.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptctl.text.kernels.characters import ASSIGNED, decode
from gptctl.text.kernels.compile import BYTES, COUNTS, NUMBER, OFFSETS, compiled, types
from gptctl.text.kernels.tables import BASE, MULTIPLIER, mix

ENTRIES = PERMUTATIONS = types.Array(types.uint32, 1, "C", readonly=True)
HASHES, NEW_HASHES = types.Array(types.uint64, 1, "C", readonly=True), types.Array(types.uint64, 1, "C")
VALUE_ROWS, KEY_ROWS = types.Array(types.uint32, 2, "C"), types.Array(types.uint64, 2, "C")
SHARES = types.Array(types.float64, 1, "C")

POINT, IN_WORD, ALONE = 0x1FFFFF, 1 << 30, 1 << 31
BLANK = 0x20
# Letters of scripts that put no spaces between words: each counts as a word, else a page would be one. By Unicode's
# property Script, among letters and numbers only.
UNSPACED = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1780, 0x17FF),  # Thai and Lao, Tibetan, Khmer
    (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),  # Myanmar
    (0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FD, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF6F),
    (0xFF71, 0xFF9D), (0x1AFF0, 0x1B16F),  # Hiragana and Katakana; what they share with other scripts is left out
    (0x3005, 0x3005), (0x3007, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x16FE3, 0x16FE3), (0x20000, 0x3FFFF),  # Han
)  # fmt: skip


@cache
def entries(normalize: bool) -> NDArray[np.uint32]:
    """Return for each of the 1,114,112 code points what words take in of it, or 0 where it stands between words.

    That is the code point, IN_WORD, and ALONE if it is a word of its own. `normalize`: words are letters and numbers
    (str.isalnum) in lower case (Unicode's simple mapping); else they are all but white space (str.isspace).
    """
    points = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    # Beyond, no character is a letter or white space.
    characters = points[:ASSIGNED].tobytes().decode("utf-32-le", "surrogatepass")
    if not normalize:
        points |= np.uint32(IN_WORD)
        for run in re.finditer(r"\s+", characters):
            points[run.start() : run.end()] = 0
        return points
    # Only the capital I with a dot grows to two characters, whose first is its simple mapping.
    lower = characters.replace("\u0130", "i").lower().encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(lower, np.uint32) | np.uint32(IN_WORD)
    for first, last in UNSPACED:
        points[first : last + 1] |= np.uint32(ALONE)
    table = np.zeros(sys.maxunicode + 1, np.uint32)
    for run in re.finditer(r"[^\W_]+", characters):
        table[run.start() : run.end()] = points[run.start() : run.end()]
    return table


@compiled(inline=True)
def absorb(key: Any, value: Any) -> Any:
    """Take a value into a hash: for another value of the same key it is another hash."""
    key = (key ^ np.uint64(value)) * MULTIPLIER
    return key ^ (key >> np.uint64(32))


@compiled()
def hash_words(data: Any, low: Any, high: Any, table: Any, out: Any, at: Any) -> Any:
    """Write the hashes of a document's words into `out` from `at` on; give where they end.

    One more place is written to than that.
    """
    key = BASE
    inside = False
    i = low
    while i < high:
        point, size = decode(data, i)
        i += size
        entry = table[point]
        if entry & ALONE:
            out[at] = key
            at += inside
            out[at] = absorb(BASE, entry)
            at += 1
        elif entry:
            key = absorb(key, entry)
            inside = True
            continue
        else:
            out[at] = key
            at += inside
        key = BASE
        inside = False
    out[at] = key
    return at + inside


@compiled()
def hash_characters(data: Any, low: Any, high: Any, table: Any, out: Any, at: Any) -> Any:
    """Write the hashes of the characters of a document's words, and of one blank between words; give where they end."""
    blank = absorb(BASE, BLANK)
    start = at
    apart = False
    i = low
    while i < high:
        point, size = decode(data, i)
        i += size
        entry = table[point]
        if not entry:
            apart = True
            continue
        alone = (entry & ALONE) != 0
        if (apart or alone) and at > start:
            out[at] = blank
            at += 1
        out[at] = absorb(BASE, entry)
        at += 1
        apart = alone
    return at


@compiled(BYTES, OFFSETS, ENTRIES, NUMBER, NUMBER, NEW_HASHES, COUNTS)
def hash_shingles(data: Any, offsets: Any, table: Any, characters: Any, n: Any, out: Any, counts: Any) -> None:
    """Write the hashes of all documents' n-grams of words, or of characters, in a row, and count each document's.

    `out` has room for as many words or characters as the text can have, and one more.
    """
    power = np.uint64(1)
    for _ in range(n):
        power *= BASE
    at = 0
    for d in range(offsets.size - 1):
        if characters:
            end = hash_characters(data, offsets[d], offsets[d + 1], table, out, at)
        else:
            end = hash_words(data, offsets[d], offsets[d + 1], table, out, at)
        counts[d] = max(0, end - at - n + 1)
        gram = np.uint64(0)
        for k in range(at, min(at + n, end)):
            gram = gram * BASE + out[k]
        for k in range(at, at + counts[d]):
            leaving = out[k]
            out[k] = mix(gram)
            if k + n < end:
                gram = gram * BASE + out[k + n] - leaving * power
        at += counts[d]


@compiled(inline=True)
def to_permute(key: Any) -> Any:
    """Return a hash's upper half, mixed by MurmurHash3's 32-bit finaliser (Appleby, public domain)."""
    value = np.uint32(key >> np.uint64(32))
    value = np.uint32((value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    value = np.uint32((value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ (value >> np.uint32(16)))


@compiled(HASHES, OFFSETS, PERMUTATIONS, PERMUTATIONS, VALUE_ROWS)
def sign(hashes: Any, offsets: Any, multipliers: Any, increments: Any, values: Any) -> None:
    """Fill each document's signature (documents, permutations): the least permuted hash, all ones without any.

    Four hashes at a time, the last repeated, share what is loaded and stored for each permutation: 500 hashes and 112
    permutations take 1.4 us, where one at a time takes 3.5.
    """
    least = np.empty(multipliers.size, np.uint32)
    for d in range(offsets.size - 1):
        least[:] = np.uint32(0xFFFFFFFF)
        last = offsets[d + 1] - 1
        for k in range(offsets[d], offsets[d + 1], 4):
            a, b = to_permute(hashes[k]), to_permute(hashes[min(k + 1, last)])
            c, e = to_permute(hashes[min(k + 2, last)]), to_permute(hashes[min(k + 3, last)])
            for p in range(multipliers.size):
                multiplier, increment = multipliers[p], increments[p]
                one = min(np.uint32(a * multiplier + increment), np.uint32(b * multiplier + increment))
                other = min(np.uint32(c * multiplier + increment), np.uint32(e * multiplier + increment))
                least[p] = min(least[p], min(one, other))
        values[d, :] = least


@compiled(HASHES, OFFSETS, KEY_ROWS)
def fold(hashes: Any, offsets: Any, keys: Any) -> None:
    """Hash each document's hashes in their order, in two independent ways (documents, 2)."""
    for d in range(offsets.size - 1):
        first, second = BASE, MULTIPLIER
        for k in range(offsets[d], offsets[d + 1]):
            first = absorb(first, hashes[k])
            second = (second + hashes[k]) * BASE
            second ^= second >> np.uint64(29)
        keys[d, 0], keys[d, 1] = first, second


@compiled(HASHES, OFFSETS, OFFSETS, HASHES, OFFSETS, OFFSETS, SHARES)
def share_in_common(a: Any, a_offsets: Any, a_rows: Any, b: Any, b_offsets: Any, b_rows: Any, shares: Any) -> None:
    """Fill |A & B| / |A | B| of pairs of rows, which are sorted sets."""
    for pair in range(a_rows.size):
        i, i_end = a_offsets[a_rows[pair]], a_offsets[a_rows[pair] + 1]
        j, j_end = b_offsets[b_rows[pair]], b_offsets[b_rows[pair] + 1]
        union = i_end - i + j_end - j
        common = 0
        while i < i_end and j < j_end:
            left, right = a[i], b[j]
            common += left == right
            i += left <= right
            j += right <= left
        union -= common
        shares[pair] = common / union if union else 0.0
