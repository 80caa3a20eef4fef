"""Run shard tasks one after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def run(
    function: Callable[[Item], Answer], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Answer]:
    """Yield function(item) for each item, in order. `workers` and `preload` are not used."""
    yield from map(function, items)
