"""Hashes of words, characters and their n-grams, and what is computed from them: signatures, keys, similarities.

The hash of a word takes in its code points one by one. The hash of an n-gram is a polynomial of the hashes of its
words, whose bits are then mixed. The polynomial of the next n-gram follows from that of the last one: one word leaves
and one enters, for any n.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptctl.text.combining_marks import combining_marks
from gptctl.text.kernels.characters import ASSIGNED, decode
from gptctl.text.kernels.compile import BYTES, COUNTS, NUMBER, OFFSETS, compiled, types
from gptctl.text.kernels.hashing import BASE, MULTIPLIER, hash_combine, mix
from gptctl.text.scripts import UNSPACED, script_table

ENTRIES = PERMUTATIONS = types.Array(types.uint32, 1, "C", readonly=True)
HASHES, NEW_HASHES = types.Array(types.uint64, 1, "C", readonly=True), types.Array(types.uint64, 1, "C")
SIGNATURES, KEY_PAIRS = types.Array(types.uint32, 2, "C"), types.Array(types.uint64, 2, "C")
SIMILARITIES = types.Array(types.float64, 1, "C")

# An entry of the table of code points: the code point itself, and flags. SINGLE: it is a word of its own. EXTEND: it
# belongs to the letter before it.
CODE_POINT, EXTEND, IN_WORD, SINGLE = 0x1FFFFF, 1 << 29, 1 << 30, 1 << 31
BLANK = 0x20


@cache
def code_point_table(normalize: bool, single: bool = True) -> NDArray[np.uint32]:
    """Return an entry for each of the 1,114,112 code points, which is 0 for a character between words.

    An entry consists of the code point, IN_WORD, EXTEND for a combining mark, and SINGLE for a character that is a word
    of its own. With `normalize`, words consist of letters and numbers (str.isalnum) in lower case (Unicode's simple
    mapping) with their combining marks. With `single`, each letter of a script without spaces between words is a word
    of its own. Without `normalize`, words consist of all characters but white space (str.isspace).
    """
    points = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    # No character beyond these is a letter or white space.
    characters = points[:ASSIGNED].tobytes().decode("utf-32-le", "surrogatepass")
    if not normalize:
        points |= np.uint32(IN_WORD)
        for run in re.finditer(r"\s+", characters):
            points[run.start() : run.end()] = 0
        return points
    # Only the capital I with a dot becomes two characters. The first is its simple mapping.
    lower = characters.replace("\u0130", "i").lower().encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(lower, np.uint32) | np.uint32(IN_WORD)
    table = np.zeros(sys.maxunicode + 1, np.uint32)
    for run in re.finditer(r"[^\W_]+", characters):
        table[run.start() : run.end()] = points[run.start() : run.end()]
    if single:
        table[np.isin(script_table(), UNSPACED)] |= np.uint32(SINGLE)
    marks = np.array(list(map(ord, combining_marks())), np.uint32)
    table[marks] = marks | np.uint32(IN_WORD | EXTEND)
    return table


@compiled()
def hash_words(data: Any, low: Any, high: Any, table: Any, out: Any, at: Any) -> Any:
    """Write the hashes of a document's words into `out`, from `at` on, and return where they end.

    The element behind the last hash is written to as well.
    """
    key = BASE
    inside = False
    i = low
    while i < high:
        point, size = decode(data, i)
        i += size
        entry = table[point]
        if size > 1 and entry & SINGLE:
            out[at] = key
            at += inside
            key = hash_combine(BASE, entry)
            while i < high:
                point, size = decode(data, i)
                if not table[point] & EXTEND:
                    break
                key = hash_combine(key, table[point])
                i += size
            out[at] = key
            at += 1
        elif entry and (size == 1 or inside or not entry & EXTEND):
            key = hash_combine(key, entry)
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
    """Write the hashes of the characters of a document's words, with one blank between words; return where they end."""
    blank = hash_combine(BASE, BLANK)
    start = at
    after_separator = after_single = False
    i = low
    while i < high:
        point, size = decode(data, i)
        i += size
        entry = table[point]
        if entry & EXTEND and at > start and not after_separator:
            out[at] = hash_combine(BASE, entry)
            at += 1
            continue
        if not entry or entry & EXTEND:
            after_separator = True
            after_single = False
            continue
        is_single = (entry & SINGLE) != 0
        if (after_separator or after_single or is_single) and at > start:
            out[at] = blank
            at += 1
        out[at] = hash_combine(BASE, entry)
        at += 1
        after_separator = False
        after_single = is_single
    return at


@compiled(BYTES, OFFSETS, ENTRIES, NUMBER, NUMBER, NEW_HASHES, COUNTS)
def hash_shingles(data: Any, offsets: Any, table: Any, characters: Any, n: Any, out: Any, counts: Any) -> None:
    """Write the hashes of the n-grams of words or characters, one document after another, and count those of each.

    `out` has a size of one more than the words or characters that the text can have.
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
def permutation_input(key: Any) -> Any:
    """Return the upper half of a hash, mixed by MurmurHash3's 32-bit finalizer (Appleby, public domain)."""
    value = np.uint32(key >> np.uint64(32))
    value = np.uint32((value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    value = np.uint32((value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ (value >> np.uint32(16)))


@compiled(HASHES, OFFSETS, PERMUTATIONS, PERMUTATIONS, SIGNATURES)
def compute_signatures(hashes: Any, offsets: Any, multipliers: Any, increments: Any, values: Any) -> None:
    """Write the signature of each document (documents, permutations): the minimum of its permuted hashes.

    A document without a hash gets all ones. Four hashes at a time, the last one repeated, share what is loaded and
    stored for a permutation: 500 hashes and 112 permutations take 1.4 us; one hash at a time takes 3.5 us.
    """
    minima = np.empty(multipliers.size, np.uint32)
    for d in range(offsets.size - 1):
        minima[:] = np.uint32(0xFFFFFFFF)
        last = offsets[d + 1] - 1
        for k in range(offsets[d], offsets[d + 1], 4):
            a, b = permutation_input(hashes[k]), permutation_input(hashes[min(k + 1, last)])
            c, e = permutation_input(hashes[min(k + 2, last)]), permutation_input(hashes[min(k + 3, last)])
            for p in range(multipliers.size):
                multiplier, increment = multipliers[p], increments[p]
                one = min(np.uint32(a * multiplier + increment), np.uint32(b * multiplier + increment))
                other = min(np.uint32(c * multiplier + increment), np.uint32(e * multiplier + increment))
                minima[p] = min(minima[p], min(one, other))
        values[d, :] = minima


@compiled(HASHES, OFFSETS, KEY_PAIRS)
def hash_sequences(hashes: Any, offsets: Any, keys: Any) -> None:
    """Write two independent hashes of the sequence of each document's hashes (documents, 2)."""
    for d in range(offsets.size - 1):
        first, second = BASE, MULTIPLIER
        for k in range(offsets[d], offsets[d + 1]):
            first = hash_combine(first, hashes[k])
            second = (second + hashes[k]) * BASE
            second ^= second >> np.uint64(29)
        keys[d, 0], keys[d, 1] = first, second


@compiled(HASHES, OFFSETS, OFFSETS, HASHES, OFFSETS, OFFSETS, SIMILARITIES)
def jaccard_similarity(
    a: Any, a_offsets: Any, a_rows: Any, b: Any, b_offsets: Any, b_rows: Any, similarity: Any
) -> None:
    """Write |A & B| / |A | B| for pairs of rows, which are sorted sets."""
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
        similarity[pair] = common / union if union else 0.0
