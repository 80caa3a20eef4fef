"""What all searches for duplicates start from: the tasks to read, and who reads them in how much memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.core.machine import available_cpus
from gptctl.io.input.records import ReadOptions, Task
from gptctl.pipeline.execution import Executor
from gptctl.pipeline.sorted_runs import of_task


@dataclass(frozen=True)
class Sources:
    """The shard tasks of the input, numbered behind those of what was there before.

    `max_bad`: share of what was there before that may be unreadable.
    """

    reading: ReadOptions
    old: tuple[Task, ...]
    new: Callable[[], Iterator[Task]]
    max_bad: float = 0.0

    def all(self) -> Iterator[Task]:
        """Yield the tasks of both, numbered from 0."""
        yield from self.old
        for task in self.new():
            yield replace(task, index=len(self.old) + task.index)

    @property
    def first_new(self) -> int:
        """The first place of the input."""
        return of_task(len(self.old))[0]

    def check_old(self, documents: int, unreadable: int) -> None:
        """Refuse what was there before where too little of it could be read. Raises DataError (3)."""
        if unreadable > self.max_bad * (documents + unreadable):
            raise DataError(
                f"{unreadable:,} of {documents + unreadable:,} records of --against are unreadable",
                "name the column that holds the text with --text-column; to do without these: --set max_bad=1",
            )


@dataclass(frozen=True)
class Crew:
    """Who does the work. `workers`: 0 for as many as a cluster has; `memory`: bytes for all of this machine together.

    `preload`: modules that take long to import.
    """

    executor: Executor
    workers: int
    memory: int
    context: Context
    preload: tuple[str, ...] = ()

    def each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Run a pass, answers in the order of the items; a signal stops it between two answers."""
        for answer in self.executor(function, items, self.workers, self.preload):
            yield answer
            self.context.stop.check("stopped")

    @property
    def hands(self) -> int:
        """How many work on this machine at once; more may on a cluster."""
        return self.workers or available_cpus()

    @property
    def share(self) -> int:
        """Bytes for one of them."""
        return max(1, self.memory // self.hands)

    def parts(self, records: int, size: int) -> int:
        """Say into how many parts records are cut, of which each takes `size` bytes while its part is worked on."""
        return max(self.hands, math.ceil(records * size / self.share))
