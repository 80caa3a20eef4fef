"""Sorted runs: files of rows sorted by a number, as in an external merge sort. Shard tasks exchange data in them.

Each task writes one run. To get all rows between two numbers, a reader finds them in every run by bisection and reads
them through the memory map. So the whole is never in memory, and the result does not depend on which process wrote a
run, or when.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core import atomic

WHOLE = 2**64
# A document's place is one number: the number of its task, then its row.
ROW_BITS = 40
# Runs that are memory-mapped at once. Linux allows a process 65,530 maps, and 1 TB of text makes 125,000 runs.
MOST_MAPS = 4096


@dataclass(frozen=True)
class SortedRuns:
    """A folder of runs. Each is a table sorted by its first column, which is uint64.

    Runs are not flushed to disk, so the folder must be inside `scratch.scratch_folder`.
    """

    folder: Path

    def write(self, number: int, columns: Mapping[str, NDArray[Any] | pa.Array]) -> int:
        """Write a run and return its number of rows. The rows are sorted by the first column here, stably."""
        arrays = {name: pa.array(values) for name, values in columns.items()}
        first = next(iter(arrays.values())).to_numpy()
        if len(first) > 1 and bool((first[1:] < first[:-1]).any()):
            order = pa.array(np.argsort(first, kind="stable"))
            arrays = {name: values.take(order) for name, values in arrays.items()}
        batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        atomic.write_bytes(self.path(number), sink.getvalue(), flush="none")
        return int(batch.num_rows)

    def path(self, number: int) -> Path:
        """Return the path of a run."""
        return self.folder / f"run-{number:05d}.arrow"

    def numbers(self) -> list[int]:
        """Return the numbers of the runs that exist."""
        return sorted(int(path.stem.removeprefix("run-")) for path in self.folder.glob("run-*.arrow"))

    def open(self, number: int) -> pa.Table:
        """Memory-map a run."""
        with pa.memory_map(str(self.path(number))) as source, pa.ipc.open_file(source) as reader:
            return reader.read_all()

    def between(self, low: int, high: int) -> pa.Table | None:
        """Return all rows with low <= first column < high, run after run, or None if there are none."""
        found: list[pa.Table] = []
        mapped: list[pa.Table] = []
        for number in self.numbers():
            if len(part := rows_between(self.open(number), low, high)):
                mapped.append(part)
            if len(mapped) >= MOST_MAPS:
                found.append(pa.concat_tables(mapped).combine_chunks())
                mapped = []
        return pa.concat_tables(found + mapped) if found or mapped else None

    def keep_first(self, count: int) -> None:
        """Remove the runs from number `count` on, which belong to another input that an interrupted run has read."""
        for number in self.numbers():
            if number >= count:
                self.path(number).unlink()

    def bytes(self) -> int:
        """Return the size of all runs in bytes."""
        return sum(self.path(number).stat().st_size for number in self.numbers())


def rows_between(table: pa.Table, low: int, high: int) -> pa.Table:
    """Return the rows with low <= first column < high of a table that is sorted by it, without copying."""
    column = table.column(0)
    first = position(column, low)
    last = position(column, high) if high < WHOLE else len(table)
    return table.slice(first, last - first)


def position(order: pa.ChunkedArray, value: int) -> int:
    """Return how many entries of a sorted column are below a value. Few chunks are read: each may be a page on disk."""
    chunks = [chunk for chunk in order.chunks if len(chunk)]
    number = bisect_left(chunks, value, key=lambda chunk: chunk[0].as_py()) - 1
    if number < 0:
        return 0
    before = sum(len(chunk) for chunk in chunks[:number])
    return before + int(np.searchsorted(chunks[number].to_numpy(), np.uint64(value)))


def distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the distinct numbers, sorted. For 4 million, numpy's hash-based `unique` takes 3.8 s instead of 0.04 s."""
    values = np.sort(values)
    new = np.ones(len(values), np.bool_)
    new[1:] = values[1:] != values[:-1]
    return values[new]


def ranges(count: int) -> Iterator[tuple[int, int]]:
    """Split the 64-bit numbers into `count` ranges of equal size."""
    bounds = [WHOLE * number // count for number in range(count + 1)]
    yield from pairwise(bounds)


def places(task: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the places of some rows of a task. They sort like the input."""
    return (np.uint64(task) << np.uint64(ROW_BITS)) | rows.astype(np.uint64)


def of_task(task: int) -> tuple[int, int]:
    """Return the range of a task's places."""
    return task << ROW_BITS, (task + 1) << ROW_BITS
