"""Candidate pairs: each document of a bucket with its first one."""

from __future__ import annotations

import numpy as np

from gptctl.text.dedup.whole_documents.candidates import pair_buckets


def test_buckets() -> None:
    """Each document is paired with the smallest that has its key, once: never all pairs of a bucket."""
    keys = np.array([1, 2, 1, 1, 9, 8, 8, 9], np.uint64)
    docs = np.array([40, 30, 20, 10, 40, 30, 20, 10], np.uint64)
    left, right = pair_buckets(keys, docs)
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(20, 10), (30, 20), (40, 10)]
    assert len(pair_buckets(np.empty(0, np.uint64), np.empty(0, np.uint64))[0]) == 0
    many = np.arange(5000, dtype=np.uint64)
    left, right = pair_buckets(np.zeros(5000, np.uint64), many)
    assert len(left) == 4999 and not right.any()
