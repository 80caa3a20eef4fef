"""The shard tasks that deduplication reads: those of `--against` first, then those of INPUT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import ReadOptions, ShardTask, Tolerance
from gptctl.pipeline.sorted_runs import of_task

NO_TOLERANCE = Tolerance()


@dataclass(frozen=True)
class TaskCounts:
    """How many documents, unreadable records and keys a task has.

    `known` are the names in the policy of `--keep` that fit documents of the task; `others` are some of the names that
    would.
    """

    documents: int
    unreadable: int
    keys: int
    known: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """The shard tasks of INPUT and of `--against`, numbered from 0: those of INPUT follow those of `--against`.

    `tolerance` is how many of the `--against` records may be unreadable.
    """

    options: ReadOptions
    against: tuple[ShardTask, ...]
    input_tasks: Callable[[], Iterator[ShardTask]]
    tolerance: Tolerance = NO_TOLERANCE

    def tasks(self) -> Iterator[ShardTask]:
        """Yield all tasks in order."""
        yield from self.against
        for task in self.input_tasks():
            yield replace(task, index=len(self.against) + task.index)

    @property
    def input_start(self) -> int:
        """Return the location of the first document of INPUT."""
        return of_task(len(self.against))[0]

    def check_against(self, documents: int, unreadable: int, warn: Callable[[str], None]) -> None:
        """Raise what `check_readable` raises for the records of `--against`, if there are any."""
        if self.against:
            check_readable(documents, unreadable, self.tolerance, warn)


def check_readable(documents: int, unreadable: int, tolerance: Tolerance, warn: Callable[[str], None]) -> None:
    """Warn of unreadable records of `--against`. Raise DataError (3) if there are too many, or no documents."""
    if not documents + unreadable:
        raise DataError("--against holds no document", "name files with documents, or leave it out")
    words = f"{unreadable:,} of {documents + unreadable:,} records of --against are unreadable"
    if not tolerance.accepts(unreadable, documents + unreadable):
        accept = "; to accept them: --set max_bad=1" if documents else ""
        raise DataError(words, f"name the column that holds the text with --text-column{accept}")
    if unreadable:
        warn(f"{words}: nothing is compared with them")
