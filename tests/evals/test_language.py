"""Bits per byte, perplexity, and the plan of what is scored with which context."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.language import Window, bits_per_byte, byte_perplexity, perplexity, windows


def test_sums_not_means_of_ratios() -> None:
    bits = bits_per_byte(12 + 3, 10 + 4)
    assert bits == pytest.approx(1.545745, abs=5e-7)
    assert perplexity(12 + 3, 6 + 2) == pytest.approx(6.520819, abs=5e-7)
    assert byte_perplexity(bits or 0.0) == pytest.approx(2.919547, abs=5e-7)


def test_a_uniform_byte_model_needs_eight_bits() -> None:
    assert bits_per_byte(1000 * math.log(256), 1000) == pytest.approx(8.0, abs=1e-12)
    assert perplexity(1000 * math.log(256), 1000) == pytest.approx(256.0)


def test_nothing_scored_and_unspeakably_bad_have_no_value() -> None:
    assert bits_per_byte(0.0, 0) is None
    assert perplexity(0.0, 0) is None
    assert perplexity(1e6, 1) is None


@pytest.mark.parametrize("nats", [math.nan, math.inf])
def test_nats_that_are_no_number_are_an_error_not_a_score(nats: float) -> None:
    with pytest.raises(DataError, match="not a finite number"):
        bits_per_byte(nats, 1)
    with pytest.raises(DataError, match="not a finite number"):
        perplexity(nats, 1)


def spell(window: Window) -> tuple[str, list[int]]:
    """Give a window's inputs, B before token 0, and its targets."""
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
