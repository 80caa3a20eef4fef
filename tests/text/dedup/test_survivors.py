"""One document stays of each group."""

from __future__ import annotations

import numpy as np

from gptctl.text.dedup.survivors import choose

LABELS = np.array([0, 1, 0, 1, 4, 0], np.int64)
LENGTHS = np.array([5, 2, 9, 2, 1, 9], np.int64)


def test_first() -> None:
    """The first of each label, in the input's order."""
    assert choose(LABELS, LENGTHS, "first").tolist() == [True, True, False, False, True, False]


def test_longest() -> None:
    """The longest of each label; of equals the first."""
    assert choose(LABELS, LENGTHS, "longest").tolist() == [False, True, True, False, True, False]


def test_nothing() -> None:
    """No documents, no survivors."""
    assert choose(LABELS[:0], LENGTHS[:0], "first").tolist() == []
