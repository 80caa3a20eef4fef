"""Run shard tasks on threads of this process, answers in the order of the items.

For tasks whose work is done by libraries that let go of Python's lock (Arrow, numpy, gigatoken): no process to start,
no settings to send, and one cache for all. Not offered as --executor: a stage takes it where it knows that it pays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from gptctl.executors import serial

Item = TypeVar("Item")
Answer = TypeVar("Answer")

IN_FLIGHT_PER_WORKER = 2


def run(
    function: Callable[[Item], Answer], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Answer]:
    """Yield function(item) for each item, in order, computed by `workers` threads; one worker is this thread.

    `preload` is not used.
    """
    if workers <= 1:
        yield from serial.run(function, items, 1)
        return
    pool = ThreadPoolExecutor(workers)
    flying: deque[Future[Answer]] = deque()
    try:
        for item in items:
            flying.append(pool.submit(function, item))
            if len(flying) >= workers * IN_FLIGHT_PER_WORKER:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
