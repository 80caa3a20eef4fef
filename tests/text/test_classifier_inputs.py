"""What a classifier reads of texts and pairs."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.text.classifier_inputs import ClassifierInputs, LongDocuments

MARKERS = (1000, 1001, 1002)
POLICIES = get_args(LongDocuments)


def inputs(
    max_seq_len: int, policy: LongDocuments = "head", max_windows: int = 16, symmetric: bool = False
) -> ClassifierInputs:
    return ClassifierInputs(*MARKERS, max_seq_len, policy, max_windows, symmetric)


def test_short_texts_and_pairs() -> None:
    a, b = np.arange(3), np.arange(10, 12)
    assert [list(s) for s in inputs(16).sequences(a)] == [[1000, 0, 1, 2, 1002]]
    assert [list(s) for s in inputs(16).sequences(a, b)] == [[1000, 0, 1, 2, 1001, 10, 11, 1002]]
    both = inputs(16, symmetric=True).sequences(a, b)
    assert [list(s) for s in both] == [[1000, 0, 1, 2, 1001, 10, 11, 1002], [1000, 10, 11, 1001, 0, 1, 2, 1002]]


def test_each_policy_keeps_what_it_says() -> None:
    text = np.arange(100)
    inside = {policy: [s[1:-1].tolist() for s in inputs(12, policy).sequences(text)] for policy in POLICIES}
    assert inside["head"] == [list(range(10))]
    assert inside["tail"] == [list(range(90, 100))]
    assert inside["ends"] == [[0, 1, 2, 3, 4, 95, 96, 97, 98, 99]]
    assert inside["windows"] == [list(range(start, start + 10)) for start in range(0, 100, 10)]
    few = inputs(12, "windows", max_windows=3)
    assert [s[1] for s in few.sequences(text)] == [0, 45, 90]
    assert few.truncates(text)
    assert not inputs(12, "windows").truncates(text)


@pytest.mark.parametrize("policy", POLICIES)
@given(
    context=st.integers(4, 40),
    first=st.integers(0, 90),
    second=st.none() | st.integers(0, 90),
    windows=st.integers(1, 5),
    symmetric=st.booleans(),
)
def test_whatever_the_lengths(
    policy: LongDocuments, context: int, first: int, second: int | None, windows: int, symmetric: bool
) -> None:
    """No sequence is longer than the context; what fits is whole; room that one text leaves is the other's."""
    how = inputs(context, policy, windows, symmetric)
    pair = (np.arange(first),) if second is None else (np.arange(first), np.arange(500, 500 + second))
    found = how.sequences(*pair)
    assert all(3 - 1 <= len(s) <= context and s[0] == 1000 and s[-1] == 1002 for s in found)
    assert all(s.dtype == np.int64 and (s[1:] != 1000).all() for s in found)
    read = {token for s in found for token in s.tolist() if token < 1000}
    assert (len(read) < first + (second or 0)) == how.truncates(*pair)
    if second is not None:
        assert len(found) == 1 + symmetric
        assert len(read) == min(first + second, context - 3)
    else:
        assert len(found) <= (windows if policy == "windows" else 1)


def test_it_goes_through_json() -> None:
    how = inputs(9, "tail", 3, True)
    assert ClassifierInputs.from_json(how.to_json()) == how
