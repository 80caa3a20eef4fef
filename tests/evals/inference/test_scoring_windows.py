"""The plan of what is scored with which context."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import UsageError
from gptctl.evals.inference.scoring_windows import Window, cut, windows


def spell(window: Window) -> tuple[str, list[int]]:
    """Return a window's inputs, B before token 0, and its targets."""
    inputs = "".join("B" if token < 0 else str(token) for token in range(window.start_input, window.end_input))
    return inputs, list(range(window.first_target, window.end_input + 1))


def test_the_plan_for_ten_tokens() -> None:
    assert [spell(window) for window in windows(10, 4, 2)] == [
        ("B012", [0, 1, 2, 3]),
        ("1234", [4, 5]),
        ("3456", [6, 7]),
        ("5678", [8, 9]),
    ]


def test_the_last_window_keeps_its_context() -> None:
    assert spell(windows(9, 4, 4)[-1]) == ("4567", [8])
    assert spell(windows(2, 4, 4)[0]) == ("B0", [0, 1])
    assert windows(0, 4, 2) == []


@given(st.integers(0, 300), st.integers(1, 40), st.data())
def test_every_token_is_scored_once_with_all_the_context_that_fits(
    tokens: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context))
    plan = windows(tokens, context, stride)
    assert [target for window in plan for target in spell(window)[1]] == list(range(tokens))
    for number, window in enumerate(plan):
        length = window.end_input - window.start_input
        assert length == min(context, window.end_input + 1)
        assert window.first_target > window.start_input
        assert window.end_input + 1 - window.first_target <= (stride if number else context)


@pytest.mark.parametrize(("context", "stride"), [(4, 0), (4, -1), (4, 5), (0, 1)])
def test_impossible_plans(context: int, stride: int) -> None:
    with pytest.raises(UsageError):
        windows(10, context, stride)


def test_what_the_windows_read() -> None:
    pieces = cut(np.arange(10), 99, 4, 2)
    assert [(tokens.tolist(), scored) for tokens, scored in pieces] == [
        ([99, 0, 1, 2, 3], 4), ([1, 2, 3, 4, 5], 2), ([3, 4, 5, 6, 7], 2), ([5, 6, 7, 8, 9], 2),
    ]  # fmt: skip
    assert cut(np.arange(0), 99, 4, 2) == []
