"""fastText's view of a text: its words, their character n-grams, and their word n-grams, as rows of a matrix.

The rules are those of fastText's Dictionary (Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information";
Joulin et al. 2016): words are separated by ASCII white space, hashes are 32-bit FNV-1a of signed bytes, and a text ends
with the word </s>.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.compile import BYTES, COUNTS, NEW_BYTES, NUMBER, OFFSETS, compiled, types

ROWS, NEW_ROWS = types.Array(types.int32, 1, "C", readonly=True), types.Array(types.int32, 1, "C")
MATRIX, SUMS = types.Array(types.float32, 2, "C", readonly=True), types.Array(types.float64, 2, "C")
SPANS = types.Array(types.int64, 2, "C")

WORD, LABEL = 0, 1
END = np.frombuffer(b"</s>", np.uint8)
PREFIX = np.frombuffer(b"__label__", np.uint8)  # of the words that are labels
FNV_OFFSET, FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)
WORD_FACTOR = np.uint64(116049371)
BEFORE, AFTER = np.uint8(ord("<")), np.uint8(ord(">"))

# Positions in the array of settings.
NGRAMS, BUCKETS, MINN, MAXN, WORDS = range(5)
SETTINGS = 5


@compiled(BYTES, NUMBER, COUNTS, COUNTS, COUNTS, NEW_BYTES)
def parse_entries(data: Any, count: Any, starts: Any, ends: Any, counts: Any, kinds: Any) -> None:
    """Read the entries of a dictionary: a word that ends with a zero byte, a count (int64), and a kind (int8).

    `ends[count]` is where the entries end in `data`, or -1 if it is too short for them.
    """
    at = 0
    for e in range(count):
        starts[e] = at
        while at < data.size and data[at]:
            at += 1
        ends[e] = at
        if at + 10 > data.size:
            ends[count] = -1
            return
        total = np.uint64(0)
        for k in range(8):
            total |= np.uint64(data[at + 1 + k]) << np.uint64(8 * k)
        counts[e] = np.int64(total)
        kinds[e] = data[at + 9]
        at += 10
    ends[count] = at


@compiled(inline=True)
def add_byte(key: Any, byte: Any) -> Any:
    """Add a byte to a hash. Bytes from 128 on are negative numbers."""
    signed = np.uint32(byte) | (np.uint32(0xFFFFFF00) if byte >= 128 else np.uint32(0))
    return np.uint32((key ^ signed) * FNV_PRIME)


@compiled(inline=True)
def hash_word(data: Any, low: Any, high: Any) -> Any:
    """Hash a range of bytes."""
    key = FNV_OFFSET
    for i in range(low, high):
        key = add_byte(key, data[i])
    return key


@compiled(BYTES, OFFSETS, OFFSETS, NEW_ROWS)
def index_words(data: Any, starts: Any, ends: Any, slots: Any) -> None:
    """Fill a hash table of entries, whose size is a power of two. An empty slot is -1."""
    mask = slots.size - 1
    for e in range(starts.size):
        slot = np.int64(hash_word(data, starts[e], ends[e])) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = e


@compiled()
def find_word(text: Any, low: Any, high: Any, key: Any, data: Any, starts: Any, ends: Any, slots: Any) -> Any:
    """Return the entry of a word, or -1."""
    mask = slots.size - 1
    slot = np.int64(key) & mask
    while slots[slot] >= 0:
        e = slots[slot]
        if ends[e] - starts[e] == high - low:
            k = 0
            while k < high - low and text[low + k] == data[starts[e] + k]:
                k += 1
            if k == high - low:
                return np.int64(e)
        slot = (slot + 1) & mask
    return np.int64(-1)


@compiled(inline=True)
def begins_with(text: Any, low: Any, high: Any, wanted: Any) -> Any:
    """Return whether a range of bytes begins with the bytes of `wanted`."""
    return high - low >= wanted.size and same_prefix(text, low, wanted)


@compiled(inline=True)
def same_prefix(text: Any, low: Any, wanted: Any) -> Any:
    """Return whether the bytes from `low` on are those of `wanted`."""
    for k in range(wanted.size):
        if text[low + k] != wanted[k]:
            return False
    return True


@compiled(inline=True)
def is_space(byte: Any) -> Any:
    """Return whether a byte separates words."""
    return byte == 32 or 9 <= byte <= 13 or byte == 0


@compiled()
def hashed_row(bucket: Any, settings: Any, pruned: Any) -> Any:
    """Return the row of a bucket, or -1 if a quantized model has none for it."""
    if pruned.size:
        bucket = pruned[bucket]
        if bucket < 0:
            return np.int64(-1)
    return np.int64(settings[WORDS] + bucket)


@compiled(inline=True)
def note(spans: Any, at: Any, low: Any, high: Any) -> None:
    """Write which part of a text a row is for, if it is wanted."""
    if spans.size:
        spans[at, 0], spans[at, 1] = low, high


@compiled()
def add_subwords(text: Any, low: Any, high: Any, settings: Any, pruned: Any, rows: Any, spans: Any, at: Any) -> Any:
    """Write the rows of the character n-grams of <word>, and return where they end."""
    size = high - low + 2
    for i in range(size):
        if 0 < i < size - 1 and text[low + i - 1] & 0xC0 == 0x80:
            continue
        key = FNV_OFFSET
        j, n = i, 1
        while j < size and n <= settings[MAXN]:
            while True:
                byte = BEFORE if j == 0 else AFTER if j == size - 1 else text[low + j - 1]
                key = add_byte(key, byte)
                j += 1
                if not (0 < j < size - 1 and text[low + j - 1] & 0xC0 == 0x80):
                    break
            if n >= settings[MINN] and not (n == 1 and (i == 0 or j == size)):
                row = hashed_row(np.int64(key) % settings[BUCKETS], settings, pruned)
                if row >= 0:
                    rows[at] = row
                    note(spans, at, low, high)
                    at += 1
            n += 1
    return at


@compiled()
def text_rows(
    text: Any, low: Any, high: Any, data: Any, starts: Any, ends: Any, kinds: Any, slots: Any, settings: Any,
    pruned: Any, rows: Any, spans: Any, hashes: Any,
) -> Any:  # fmt: skip
    """Write the rows of a text, and unless `spans` is empty the part of it that each is for. Return their number."""
    at = words = 0
    i = low
    done = False
    while not done:
        while i < high and is_space(text[i]):
            i += 1
        first = i
        while i < high and not is_space(text[i]):
            i += 1
        is_end = first == i or (i - first == END.size and same_prefix(text, first, END))
        done = is_end
        key = hash_word(END, 0, END.size) if first == i else hash_word(text, first, i)
        if first == i:
            entry = find_word(END, 0, END.size, key, data, starts, ends, slots)
        else:
            entry = find_word(text, first, i, key, data, starts, ends, slots)
        kind = kinds[entry] if entry >= 0 else LABEL if begins_with(text, first, i, PREFIX) else WORD
        if kind != WORD:
            continue
        if entry >= 0:
            rows[at] = entry
            note(spans, at, first, i)
            at += 1
        if not is_end and settings[MAXN] > 0 and settings[BUCKETS] > 0:
            at = add_subwords(text, first, i, settings, pruned, rows, spans, at)
        hashes[words, 0], hashes[words, 1], hashes[words, 2] = np.int32(key), first, i
        words += 1
    for w in range(words if settings[BUCKETS] > 0 else 0):
        gram = np.uint64(hashes[w, 0])
        for v in range(w + 1, min(w + settings[NGRAMS], words)):
            gram = gram * WORD_FACTOR + np.uint64(hashes[v, 0])
            row = hashed_row(np.int64(gram % np.uint64(settings[BUCKETS])), settings, pruned)
            if row >= 0:
                rows[at] = row
                note(spans, at, hashes[w, 1], hashes[v, 2])
                at += 1
    return at


@compiled(inline=True)
def most_rows(size: Any, settings: Any) -> Any:
    """Return how many rows a text of `size` bytes can have at most: a word takes two bytes, with the white space."""
    words = size // 2 + 2
    each = max(0, settings[MAXN] - settings[MINN] + 1) if settings[MAXN] > 0 else 0
    return words * settings[NGRAMS] + (size + 2 * words) * each


@compiled(BYTES, OFFSETS, BYTES, OFFSETS, OFFSETS, BYTES, ROWS, OFFSETS, ROWS, MATRIX, SUMS, COUNTS)
def sum_rows(
    text: Any, offsets: Any, data: Any, starts: Any, ends: Any, kinds: Any, slots: Any, settings: Any, pruned: Any,
    matrix: Any, sums: Any, counts: Any,
) -> None:  # fmt: skip
    """Add up the rows of each text in `sums` (texts, width of the matrix), and count them."""
    longest = 0
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    room = most_rows(longest, settings)
    rows, spans = np.empty(room, np.int32), np.empty((0, 2), np.int64)
    hashes = np.empty((longest // 2 + 2, 3), np.int64)
    for d in range(offsets.size - 1):
        count = text_rows(
            text, offsets[d], offsets[d + 1], data, starts, ends, kinds, slots, settings, pruned, rows, spans, hashes
        )
        counts[d] = count
        for k in range(count):
            for c in range(matrix.shape[1]):
                sums[d, c] += matrix[rows[k], c]


@compiled(BYTES, BYTES, OFFSETS, OFFSETS, BYTES, ROWS, OFFSETS, ROWS, NEW_ROWS, SPANS, COUNTS)
def describe_rows(
    text: Any, data: Any, starts: Any, ends: Any, kinds: Any, slots: Any, settings: Any, pruned: Any,
    rows: Any, spans: Any, count: Any,
) -> None:  # fmt: skip
    """Write the rows of one text, the part of it that each is for, and how many there are."""
    hashes = np.empty((text.size // 2 + 2, 3), np.int64)
    count[0] = text_rows(text, 0, text.size, data, starts, ends, kinds, slots, settings, pruned, rows, spans, hashes)
