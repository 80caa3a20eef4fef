"""Run the function on one item after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count(workers: int) -> int:
    """Return 1, whatever the user asks for."""
    return 1


def run(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Result]:
    """Yield function(item) for each item, in order. `workers` and `preload` are ignored."""
    yield from map(function, items)
