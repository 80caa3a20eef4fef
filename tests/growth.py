"""Compare the work that a function does on an input and on one four times as large."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

LARGEST = 6  # times as much work for four times the input; the square would be 16 times


def count_calls(function: Callable[[], Any]) -> int:
    """Return how many functions are called, those written in C included."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def assert_linear(small: int, large: int) -> None:
    """Assert that the work for four times the input is at most six times as much."""
    assert large <= LARGEST * small, f"{small} for n, {large} for 4 n"
