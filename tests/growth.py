"""Compare the work that a function does on an input and on one four times as large."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

LARGEST = 6  # times as much work for four times the input; the square would be 16 times
LARGEST_SECONDS = 8  # the same for processor seconds, in which larger tables also miss the caches more often
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


def assert_linear_seconds(work: Callable[[Any], Any], text: Callable[[int], Any], size: int) -> None:
    """Assert that the work for `text(4 * size)` takes at most eight times the processor time of that for `text(size)`.

    Processor time is not wall time, but other processes share its caches. So the least of several attempts counts, and
    where the smaller text alone may have fitted into a cache, four times both sizes are tried too.
    """
    found = [compare_seconds(work, text(size), text(4 * size))]
    if found[0][1] > LARGEST_SECONDS * found[0][0]:
        found.append(compare_seconds(work, text(4 * size), text(16 * size)))
    assert found[-1][1] <= LARGEST_SECONDS * found[-1][0], "; ".join(
        f"{a:.4f} s for n, {b:.4f} s for 4 n" for a, b in found
    )


def compare_seconds(work: Callable[[Any], Any], small: Any, large: Any, attempts: int = 6) -> tuple[float, float]:
    """Return the processor seconds for two inputs: the least of several attempts, the fewer the clearer they are."""
    least = [float("inf"), float("inf")]
    for _ in range(attempts):
        for place, item in enumerate((small, large)):
            began = time.process_time()
            work(item)
            least[place] = min(least[place], max(time.process_time() - began, SHORTEST))
        if least[1] <= LARGEST_SECONDS * least[0]:
            break
    return least[0], least[1]
