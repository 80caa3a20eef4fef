"""Lines, paragraphs or long passages that stand somewhere before: found and removed in passes over shard tasks.

1. `mark`: the key and the place of each line, paragraph or window of words.
2. `find_later`: for a range of keys, every place but the first of each key.
3. `RemoveRepeats`: a task's documents without what stands at these places.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.summary import Counts
from gptctl.io.dataset.schema import with_kind
from gptctl.io.input.inputs import read_task
from gptctl.io.input.records import ReadOptions, Task
from gptctl.pipeline import execution, sorted_runs
from gptctl.pipeline.execution import TaskOutput
from gptctl.pipeline.sorted_runs import SortedRuns, of_task, places
from gptctl.text.dedup import lines, substrings
from gptctl.text.dedup.clusters import starts
from gptctl.text.dedup.report import LARGEST, excerpt
from gptctl.text.dedup.worker_pool import Crew, Sources

Method = Literal["lines", "paragraphs", "substring"]
NOTHING_LEFT = "only_duplicates"
SORTING_BYTES = 128  # for each key of a range, while they are sorted and counted


@dataclass(frozen=True)
class Repeats:
    """What is looked for, and the folder of the runs.

    `min_chars`: shortest line or paragraph; `length`: words of a passage; `fold`: without case and digits.
    """

    folder: Path
    method: Method
    min_chars: int
    length: int
    fold: bool

    @property
    def keys(self) -> SortedRuns:
        """`key`, `place`."""
        return SortedRuns(self.folder / "keys")

    @property
    def later(self) -> SortedRuns:
        """The `place` of everything in the input that stands before, too; with its `key`, and how many `times` so."""
        return SortedRuns(self.folder / "later")

    @property
    def unit(self) -> lines.Unit:
        """What `lines` calls the method's unit."""
        return "line" if self.method == "lines" else "paragraph"

    def keys_of(self, text: pa.LargeStringArray) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the keys of a column, and their positions in it."""
        if self.method == "substring":
            return substrings.keys(text, self.length)
        return lines.keys(text, self.unit, self.min_chars, self.fold)

    def mark(self, reading: ReadOptions, task: Task) -> tuple[int, int, int]:
        """Write a task's keys, in a worker; gives the number of documents, unreadable records and keys."""
        table, bad = read_task(task, reading)
        keys, positions = self.keys_of(table["text"].combine_chunks())
        written = self.keys.write(task.index, {"key": keys, "place": places(task.index, positions)})
        return len(table), len(bad), written

    def find_later(self, first_new: int, part: tuple[int, tuple[int, int]]) -> int:
        """Write the places, from `first_new` on, of a range of keys but the first of each key; gives their number."""
        number, (low, high) = part
        found = self.keys.between(low, high)
        keys = where = np.empty(0, np.uint64)
        if found is not None:
            keys, where = found["key"].to_numpy(), found["place"].to_numpy()
            order = np.lexsort((where, keys))
            keys, where = keys[order], where[order]
        begins = starts(keys)
        again = ~begins & (where >= np.uint64(first_new))
        group = np.cumsum(begins) - 1
        times = np.bincount(group[again])[group[again]]
        return self.later.write(number, {"place": where[again], "key": keys[again], "times": times})

    def found(self, number: int) -> pa.Table:
        """Return what stands before of one task, by place."""
        found = self.later.between(*of_task(number))
        if found is None:
            none = np.empty(0, np.uint64)
            found = pa.table({"place": none, "key": none, "times": none.astype(np.int64)})
        return found.sort_by("place")

    def remove(self, text: pa.LargeStringArray, positions: NDArray[np.int64]) -> tuple[pa.LargeStringArray, int, int]:
        """Return a column without what stands at some positions, how many went, and bytes it is shorter by."""
        if self.method == "substring":
            return substrings.remove(text, self.length, positions)
        return lines.remove(text, self.unit, self.min_chars, positions)

    def excerpts(self, text: pa.LargeStringArray, positions: NDArray[np.int64]) -> list[str]:
        """Return what stands at some positions."""
        if self.method == "substring":
            return substrings.at(text, self.length, positions)
        return lines.at(text, self.unit, self.min_chars, positions)


def find(repeats: Repeats, sources: Sources, crew: Crew) -> dict[str, int]:
    """Find what stands before; counts it."""
    shutil.rmtree(repeats.folder, ignore_errors=True)  # of a run that was cut off, maybe in other ranges
    keys = documents = unreadable = 0
    for number, (count, bad, written) in enumerate(crew.each(partial(repeats.mark, sources.reading), sources.all())):
        keys += written
        if number < len(sources.old):
            documents, unreadable = documents + count, unreadable + bad
        crew.context.progress(number + 1, None, "shards hashed", f"{keys:,} keys")
    sources.check_old(documents, unreadable)
    parts = sorted_runs.ranges(crew.parts(keys, SORTING_BYTES))
    later = sum(crew.each(partial(repeats.find_later, sources.first_new), enumerate(parts)))
    return {"compared": keys, "repeats": later, "disk_bytes": repeats.keys.bytes()}


@dataclass(frozen=True)
class RemoveRepeats:
    """Takes out of a task's documents what stands before; `before`: tasks of what was there before the input."""

    repeats: Repeats
    before: int

    def __call__(self, task: Task, table: pa.Table) -> TaskOutput:
        """Rewrite the documents; one of which nothing is left goes."""
        text = table["text"].combine_chunks()
        number = self.before + task.index
        found = self.repeats.found(number)
        positions = (found["place"].to_numpy() - np.uint64(of_task(number)[0])).astype(np.int64)
        rest, units, size = self.repeats.remove(text, positions)
        empty = pc.and_(pc.equal(pc.binary_length(rest), 0), pc.greater(pc.binary_length(text), 0))
        changed = table.set_column(table.column_names.index("text"), "text", rest)
        kept = changed.filter(pc.invert(empty))
        counts = Counts(documents_in=len(table), kept=len(kept), bytes_in=execution.text_bytes(table))
        counts.bytes_kept = execution.text_bytes(kept)
        if len(kept) < len(table):
            counts.dropped[NOTHING_LEFT] = len(table) - len(kept)
            counts.dropped_bytes[NOTHING_LEFT] = int(pc.sum(pc.binary_length(text.filter(empty))).as_py())
        kept = kept.replace_schema_metadata(with_kind(kept.schema, "documents").metadata)
        changed_documents = int(pc.sum(pc.not_equal(pc.binary_length(rest), pc.binary_length(text))).as_py() or 0)
        figures = {"removed": units, "removed_bytes": size, "changed": changed_documents}
        return TaskOutput({"": kept}, counts, figures | {"often": self.often(text, found, positions)})

    def often(self, text: pa.LargeStringArray, found: pa.Table, positions: NDArray[np.int64]) -> list[list[Any]]:
        """Show what is removed most often: its key, how many times it stands again in the input, how it begins.

        Of windows in a row, which make one passage, only the first counts.
        """
        rows = np.arange(len(positions))
        if self.repeats.method == "substring":
            rows = np.flatnonzero(np.diff(positions, prepend=-2) > 1)
        times, keys = found["times"].to_numpy()[rows], found["key"].to_numpy()[rows]
        _, first = np.unique(keys, return_index=True)
        chosen = first[np.lexsort((first, -times[first]))][:LARGEST]
        shown = self.repeats.excerpts(text, positions[rows[chosen]])
        return [
            [f"{key:016x}", count, excerpt(one)]
            for key, count, one in zip(keys[chosen].tolist(), times[chosen].tolist(), shown, strict=True)
        ]
