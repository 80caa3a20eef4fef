"""Compare the work that a function does on an input and on one four times as large."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

LARGEST = 6  # times as much work for four times the input; the square would be 16 times
LARGEST_TIME = 9  # times as much time: what no longer fits into the processor's caches takes longer
SHORTEST = 0.002  # processor seconds; below it, fixed costs and the clock decide


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


def assert_linear_seconds(work: Callable[[Any], Any], small: Any, large: Any, attempts: int = 4) -> None:
    """Assert that `work` takes linear processor time, where `large` is four times `small`.

    Processor time is not wall time, but other processes share its caches. So the least of several attempts counts.
    """
    least = [float("inf"), float("inf")]
    for _ in range(attempts):
        for place, item in enumerate((small, large)):
            began = time.process_time()
            work(item)
            least[place] = min(least[place], time.process_time() - began)
        if least[1] <= LARGEST_TIME * max(least[0], SHORTEST):
            return
    raise AssertionError(f"{least[0]:.4f} processor seconds for n, {least[1]:.4f} for 4 n")
