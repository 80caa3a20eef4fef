"""Run the function on threads of this process.

It is for functions whose work is done by libraries that release Python's lock (Arrow, numpy, gigatoken): there is no
process to start, nothing to send, and one cache for all. It is no choice of --executor: a stage uses it where it helps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from gptctl.executors import serial

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PENDING_PER_WORKER = 2


def run(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by `workers` threads. `preload` is ignored.

    With one worker the function runs in the calling thread.
    """
    if workers <= 1:
        yield from serial.run(function, items, 1)
        return
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= workers * MAX_PENDING_PER_WORKER:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
