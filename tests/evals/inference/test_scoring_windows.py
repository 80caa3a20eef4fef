"""Which tokens are scored in which window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.evals.inference.scoring_windows import Window, plan_windows, window_requests


def spell(window: Window) -> tuple[str, list[int]]:
    """Return a window's inputs, B before token 0, and its targets."""
    inputs = "".join("B" if token < 0 else str(token) for token in range(window.start_input, window.end_input))
    return inputs, list(range(window.first_target, window.end_input + 1))


def test_the_plan_for_ten_tokens() -> None:
    assert [spell(window) for window in plan_windows(10, 4, 2)] == [
        ("B012", [0, 1, 2, 3]),
        ("1234", [4, 5]),
        ("3456", [6, 7]),
        ("5678", [8, 9]),
    ]


def test_the_last_window_keeps_its_context() -> None:
    assert spell(plan_windows(9, 4, 4)[-1]) == ("4567", [8])
    assert spell(plan_windows(2, 4, 4)[0]) == ("B0", [0, 1])
    assert plan_windows(0, 4, 2) == []


@given(st.integers(0, 300), st.integers(1, 40), st.data())
def test_every_token_is_scored_once_with_all_the_context_that_fits(
    tokens: int, max_length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, max_length))
    plan = plan_windows(tokens, max_length, stride)
    assert [target for window in plan for target in spell(window)[1]] == list(range(tokens))
    for number, window in enumerate(plan):
        length = window.end_input - window.start_input
        assert length == min(max_length, window.end_input + 1)
        assert window.first_target > window.start_input
        assert window.end_input + 1 - window.first_target <= (stride if number else max_length)


@pytest.mark.parametrize(("max_length", "stride"), [(4, 0), (4, -1), (4, 5), (0, 1)])
def test_impossible_plans(max_length: int, stride: int) -> None:
    with pytest.raises(UsageError):
        plan_windows(10, max_length, stride)


def test_what_the_windows_read() -> None:
    requests = window_requests(np.arange(10), 99, 4, 2)
    assert [(tokens.tolist(), scored) for tokens, scored in requests] == [
        ([99, 0, 1, 2, 3], 4), ([1, 2, 3, 4, 5], 2), ([3, 4, 5, 6, 7], 2), ([5, 6, 7, 8, 9], 2),
    ]  # fmt: skip
    assert window_requests(np.arange(0), 99, 4, 2) == []
