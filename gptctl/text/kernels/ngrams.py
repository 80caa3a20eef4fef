"""Hashed n-grams of words: which of them a document has, sums of weights over them, and training those weights.

A document is described by the n-grams of 1 to n words that occur in it, each counted once. An n-gram is known by its
bucket, the low bits of its hash. Different n-grams of the same bucket share a weight (Weinberger et al. 2009).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gptctl.text.kernels.compile import BYTES, COUNTS, NUMBER, OFFSETS, compiled, types
from gptctl.text.kernels.hashing import BASE, mix
from gptctl.text.kernels.shingles import ENTRIES, hash_words

BUCKETS, NEW_BUCKETS = types.Array(types.int32, 1, "C", readonly=True), types.Array(types.int32, 1, "C")
WEIGHTS, NEW_WEIGHTS = types.Array(types.float32, 2, "C", readonly=True), types.Array(types.float32, 2, "C")
RATE, BIAS, SUMS = types.float64, types.Array(types.float64, 1, "C"), types.Array(types.float64, 2, "C")


def room_for_ngrams(n: int, texts: int, size: int) -> int:
    """Return how many n-grams of 1 to n words some texts of `size` bytes in all can have: a word takes two bytes."""
    return n * (texts + size) // 2 + 1


@compiled(BYTES, OFFSETS, ENTRIES, NUMBER, NUMBER, NEW_BUCKETS, COUNTS)
def hash_ngrams(data: Any, offsets: Any, table: Any, n: Any, buckets: Any, out: Any, ends: Any) -> None:
    """Write the buckets of each document's n-grams of 1 to n words into `out`, and where each document ends there.

    `table` is that of `code_point_table`, and `buckets` a power of two. `out` has room for `room_for_ngrams` of them.
    """
    longest = 0
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    words = np.empty(longest + 1, np.uint64)
    seen = np.full(buckets, -1, np.int32)
    low_bits = np.uint64(buckets - 1)
    at = 0
    for d in range(offsets.size - 1):
        count = hash_words(data, offsets[d], offsets[d + 1], table, words, 0)
        for k in range(count):
            gram = np.uint64(0)
            for j in range(k, min(k + n, count)):
                gram = gram * BASE + words[j]
                bucket = np.int64(mix(gram) & low_bits)
                if seen[bucket] != d:
                    seen[bucket] = d
                    out[at] = bucket
                    at += 1
        ends[d] = at


@compiled(BUCKETS, OFFSETS, WEIGHTS, SUMS)
def sum_weights(grams: Any, offsets: Any, weights: Any, sums: Any) -> None:
    """Add to each row of `sums` (documents, labels) the weights of a document's n-grams, over the root of their number.

    The root makes the length of a document's description 1, whatever the number of its words.
    """
    for d in range(offsets.size - 1):
        low, high = offsets[d], offsets[d + 1]
        if high > low:
            scale = 1 / np.sqrt(high - low)
            for label in range(weights.shape[1]):
                total = 0.0
                for k in range(low, high):
                    total += weights[grams[k], label]
                sums[d, label] += total * scale


@compiled(BUCKETS, OFFSETS, BUCKETS, OFFSETS, RATE, RATE, NEW_WEIGHTS, BIAS)
def train_pass(
    grams: Any, offsets: Any, labels: Any, order: Any, rate: Any, last_rate: Any, weights: Any, bias: Any
) -> None:
    """Train a softmax classifier on each document of `order` once, with a learning rate that falls linearly."""
    p = np.empty(weights.shape[1], np.float64)
    for step in range(order.size):
        d = order[step]
        low, high = offsets[d], offsets[d + 1]
        scale = 1 / np.sqrt(max(1, high - low))
        p[:] = 0
        for k in range(low, high):
            for label in range(p.size):
                p[label] += weights[grams[k], label]
        p *= scale
        p += bias
        p -= p.max()
        p[:] = np.exp(p)
        p /= -p.sum()
        p[labels[d]] += 1
        p *= rate + (last_rate - rate) * step / order.size
        bias += p
        p *= scale
        for k in range(low, high):
            for label in range(p.size):
                weights[grams[k], label] += p[label]
