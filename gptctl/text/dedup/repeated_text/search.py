"""Finding lines, paragraphs or passages that occurred before in INPUT or `--against`, in two steps over shard tasks.

1. `HashTask` writes the key and the location of each unit.
2. `FindRepeats` writes, for a range of keys, every location but the first of each key.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task
from gptctl.pipeline import sorted_runs
from gptctl.pipeline.sorted_runs import SortedRuns, of_task, places
from gptctl.text.dedup.corpus import Corpus, TaskCounts
from gptctl.text.dedup.repeated_text.method import Method
from gptctl.text.dedup.sorted_arrays import run_starts
from gptctl.text.dedup.worker_pool import WorkerPool

SORTING_BYTES = 128  # memory for each key of a range while keys are sorted and counted


@dataclass(frozen=True)
class Workspace:
    """The folder of intermediate files.

    A location is the number of the task and the position of the unit in it, packed into 64 bits.
    """

    folder: Path

    @property
    def keys(self) -> SortedRuns:
        """All units: `key`, `location`."""
        return SortedRuns(self.folder / "keys")

    @property
    def repeats(self) -> SortedRuns:
        """The units of INPUT that occurred before: `location`, `key`, and how many `times` they are repeated."""
        return SortedRuns(self.folder / "repeats")

    def repeats_of(self, task: int) -> pa.Table:
        """Return the repeats of a task, by location."""
        found = self.repeats.between(*of_task(task))
        if found is None:
            none = np.empty(0, np.uint64)
            found = pa.table({"location": none, "key": none, "times": none.astype(np.int64)})
        return found.sort_by("location")


@dataclass(frozen=True)
class HashTask:
    """Writes the keys of a task, in a worker."""

    method: Method
    workspace: Workspace
    options: ReadOptions

    def __call__(self, task: ShardTask) -> TaskCounts:
        """Read and hash a task."""
        found = read_task(task, self.options)
        keys, positions = self.method.keys(found.documents["text"].combine_chunks())
        columns = {"key": keys, "location": places(task.index, positions)}
        return TaskCounts(len(found.documents), len(found.unreadable), self.workspace.keys.write(task.index, columns))


@dataclass(frozen=True)
class FindRepeats:
    """Writes the repeats of a range of keys, in a worker. Locations of INPUT begin at `input_start`."""

    workspace: Workspace
    input_start: int

    def __call__(self, numbered_range: tuple[int, tuple[int, int]]) -> int:
        """Write every location in INPUT but the first of each key, and return their number."""
        number, (low, high) = numbered_range
        found = self.workspace.keys.between(low, high)
        keys = locations = np.empty(0, np.uint64)
        if found is not None:
            keys, locations = found["key"].to_numpy(), found["location"].to_numpy()
            order = np.lexsort((locations, keys))
            keys, locations = keys[order], locations[order]
        starts = run_starts(keys)
        is_repeat = ~starts & (locations >= np.uint64(self.input_start))
        group = (np.cumsum(starts) - 1)[is_repeat]
        times = np.bincount(group)[group]
        columns = {"location": locations[is_repeat], "key": keys[is_repeat], "times": times}
        return self.workspace.repeats.write(number, columns)


@dataclass(frozen=True)
class RepeatSearch:
    """Finds all repeats and writes them to the workspace."""

    method: Method
    workspace: Workspace
    corpus: Corpus
    pool: WorkerPool

    def run(self) -> dict[str, int]:
        """Return metrics of the search. Raises DataError (3) if too many records of `--against` are unreadable."""
        shutil.rmtree(self.workspace.folder, ignore_errors=True)  # an interrupted run may have used other ranges
        corpus, pool = self.corpus, self.pool
        keys = documents = unreadable = 0
        hash_task = HashTask(self.method, self.workspace, corpus.options)
        for number, counts in enumerate(pool.map(hash_task, corpus.tasks()), 1):
            keys += counts.keys
            if number <= len(corpus.against):
                documents, unreadable = documents + counts.documents, unreadable + counts.unreadable
            pool.context.report_shards(number, "shards hashed", f"{keys:,} keys", len(corpus.against))
        corpus.check_against(documents, unreadable, pool.context.warn)
        ranges = sorted_runs.ranges(pool.partitions(keys, SORTING_BYTES))
        repeats = sum(pool.map(FindRepeats(self.workspace, corpus.input_start), enumerate(ranges)))
        return {"compared": keys, "repeats": repeats, "disk_bytes": self.workspace.keys.bytes()}
