"""Choosing the survivors of clusters: the best document of a component, and one by one."""

from __future__ import annotations

import numpy as np

from gptctl.text.dedup.whole_documents.survivors import choose_best, choose_one_by_one


def test_the_best_of_each_component() -> None:
    """The lowest rank stays, of equals the first."""
    docs, labels = np.array([1, 2, 3, 4, 5, 9], np.uint64), np.array([1, 1, 1, 4, 4, 9], np.uint64)
    rank = np.array([0.0, -1.0, -1.0, 5.0, 1.0, np.inf])
    assert choose_best(docs, labels, rank).tolist() == [2, 2, 2, 5, 5, 9]


def test_one_by_one() -> None:
    """The best of what is paired and stays; who found nobody stays for those that follow."""
    docs = np.array([10, 20, 30, 40, 50, 60], np.uint64)
    survivor = np.array([10, 10, 30, 40, 50, 60], np.uint64)
    pairs = [
        (np.array([30, 40], np.uint64), np.array([20, 30], np.uint64)),
        (docs[3:4], docs[:1]),
        (docs[4:5], docs[3:4]),
    ]
    open_rows = np.array([2, 3, 4, 5])
    none = np.zeros(6)
    assert choose_one_by_one(docs, survivor, none, open_rows, pairs).tolist() == [10, 10, 30, 10, 50, 60]
    last_first = -np.arange(6.0)
    assert choose_one_by_one(docs, survivor, last_first, open_rows, pairs).tolist() == [10, 10, 30, 50, 50, 60]
    assert choose_one_by_one(docs, survivor, none, open_rows, []).tolist() == [10, 10, 30, 40, 50, 60]
    assert choose_one_by_one(docs, survivor, none, open_rows[:0], pairs).tolist() == survivor.tolist()
