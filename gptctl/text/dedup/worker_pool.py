"""A pool of workers that share one budget of memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from gptctl.core.context import Context
from gptctl.core.cpus import available_cpus
from gptctl.executors import Executor

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerPool:
    """Run functions in worker processes, each within its share of the memory.

    `max_memory` counts the bytes for all workers of this machine
    together. `preload` names modules that take long to import.
    """

    executor: Executor
    max_memory: int
    context: Context
    preload: tuple[str, ...] = ()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result for each item, in the order of the items. A signal stops the pool between two results."""
        for result in self.executor.map(function, items, self.preload):
            yield result
            self.context.stop.check("stopped")

    @property
    def concurrency(self) -> int:
        """Return how many workers run at once on this machine. A cluster may run more."""
        return self.executor.workers or available_cpus()

    @property
    def memory_per_worker(self) -> int:
        """Return the bytes that one worker may use."""
        return max(1, self.max_memory // self.concurrency)

    def partitions(self, records: int, bytes_per_record: int) -> int:
        """Return the number of equal parts to cut `records` into so that one part fits into a worker's memory."""
        return max(self.concurrency, math.ceil(records * bytes_per_record / self.memory_per_worker))
