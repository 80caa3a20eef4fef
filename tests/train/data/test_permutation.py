"""The random order of samples is a permutation, computed for any index alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gptctl.train.data.permutation import permute


@given(st.integers(1, 3000), st.integers(0, 2**62))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    """Every index comes once, and where one goes does not depend on who else is asked."""
    order = permute(np.arange(size), size, key)
    assert sorted(order.tolist()) == list(range(size))
    assert permute(np.array([size - 1]), size, key)[0] == order[-1]


def test_permute_mixes() -> None:
    """Neighbours do not stay neighbours, another key gives another order."""
    order, other = permute(np.arange(5000), 5000, 1), permute(np.arange(5000), 5000, 2)
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01
    assert (order == other).mean() < 0.01
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
