"""The shard tasks that deduplication reads: those of `--against` first, then those of INPUT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.inputs import Inputs
from gptctl.pipeline.sorted_runs import of_task


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

    `max_bad` is the largest share of the `--against` records that may be unreadable.
    """

    options: ReadOptions
    against: tuple[ShardTask, ...]
    input_tasks: Callable[[], Iterator[ShardTask]]
    max_bad: float = 0.0

    def tasks(self) -> Iterator[ShardTask]:
        """Yield all tasks in order."""
        yield from self.against
        for task in self.input_tasks():
            yield replace(task, index=len(self.against) + task.index)

    @property
    def input_start(self) -> int:
        """Return the location of the first document of INPUT."""
        return of_task(len(self.against))[0]

    def check_against(self, documents: int, unreadable: int) -> None:
        """Raise DataError (3) if `--against` has no document, or if too many of its records are unreadable."""
        if self.against and not documents + unreadable:
            raise without_documents()
        if unreadable > self.max_bad * (documents + unreadable):
            raise DataError(
                f"{unreadable:,} of {documents + unreadable:,} records of --against are unreadable",
                "name the column that holds the text with --text-column; to accept them: --set max_bad=1",
            )


def against_tasks(against: Inputs) -> tuple[ShardTask, ...]:
    """Return the shard tasks of `--against`, whose texts may be in a column of another usual name.

    Raises DataError (3) if there is none.
    """
    tasks = tuple(replace(task, usual_columns=True) for task in against.tasks())
    if not tasks:
        raise without_documents()
    return tasks


def check_against(against: Inputs) -> None:
    """Raise DataError (3) if `--against` has nothing to read."""
    if next(against.tasks(), None) is None:
        raise without_documents()


def without_documents() -> DataError:
    """Return the error for `--against` without a document."""
    return DataError("--against holds no document", "name files with documents, or leave it out")
