"""Executors: ways to run one function on many items, on one core or on many. A file in this folder is one of them.

The file's name is what users write after --executor. Files whose names begin with an underscore are not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, cast

from gptctl.core import plugins
from gptctl.core.config import WorkerOptions

Item = TypeVar("Item")
Result = TypeVar("Result")


class Run(Protocol):
    """The function `run` of an executor's file."""

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
    ) -> Iterator[Result]:
        """Yield function(item) for each item, in the order of the items.

        `workers` is how many items are worked on at once. `preload` names modules that `function` imports and that
        take long to import. Items are taken from the iterable only as fast as workers need them. What `function` raises
        is raised here; if a worker dies, MachineError (4) is.
        """


class ExecutorModule(Protocol):
    """What an executor's file must define. Further arguments of `run` are settings of that executor alone."""

    run: Run

    def worker_count(self, workers: int) -> int:
        """Return how many workers run at once if the user asks for `workers`, of which 0 means all there are."""


@dataclass(frozen=True)
class Executor:
    """An executor with the number of workers and the settings that the user chose."""

    run: Run
    workers: int

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], preload: Sequence[str] = ()
    ) -> Iterator[Result]:
        """Yield function(item) for each item, in the order of the items."""
        return self.run(function, items, self.workers, preload)


def load_executor(options: WorkerOptions) -> Executor:
    """Return the executor that the options name, with its settings."""
    module = cast(ExecutorModule, plugins.load(__name__, options.executor))
    return Executor(partial(module.run, **options.executor_options()), module.worker_count(options.workers))
