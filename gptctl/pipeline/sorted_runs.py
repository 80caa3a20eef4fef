"""What shard tasks hand to each other: files of records sorted by a number, brought together by ranges of that number.

Each task writes one run. Whoever needs all records between two numbers finds them in every run by bisection and reads
them through the memory map, so nothing is ever in memory as a whole, and nothing depends on who wrote which run when.
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
# A document's place: its task's number, then its row.
ROW_BITS = 40
# SortedRuns mapped into memory at once: Linux allows a process 65,530 maps, and 1 TB of text makes 125,000 runs.
MOST_MAPS = 4096


@dataclass(frozen=True)
class SortedRuns:
    """A folder of runs, each a table sorted by its first column, which is uint64.

    They are not flushed to disk: the folder belongs into jobs.scratch_folder.
    """

    folder: Path

    def write(self, number: int, columns: Mapping[str, NDArray[Any] | pa.Array]) -> int:
        """Write a run; its rows are sorted by the first column here, stably. Gives the number of rows."""
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
        """Name a run."""
        return self.folder / f"run-{number:05d}.arrow"

    def numbers(self) -> list[int]:
        """List the runs that are there."""
        return sorted(int(path.stem.removeprefix("run-")) for path in self.folder.glob("run-*.arrow"))

    def open(self, number: int) -> pa.Table:
        """Map a run into memory."""
        with pa.memory_map(str(self.path(number))) as source, pa.ipc.open_file(source) as reader:
            return reader.read_all()

    def between(self, low: int, high: int) -> pa.Table | None:
        """Return the rows of all runs with low <= first column < high, run after run, or None if there are none."""
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
        """Remove runs from number `count` on: of another input, which a run that was cut off had read."""
        for number in self.numbers():
            if number >= count:
                self.path(number).unlink()

    def bytes(self) -> int:
        """Sum the sizes of the runs."""
        return sum(self.path(number).stat().st_size for number in self.numbers())


def rows_between(table: pa.Table, low: int, high: int) -> pa.Table:
    """Return the rows of a table sorted by its first column with low <= value < high, without copying."""
    column = table.column(0)
    first = position(column, low)
    last = position(column, high) if high < WHOLE else len(table)
    return table.slice(first, last - first)


def position(order: pa.ChunkedArray, value: int) -> int:
    """Count the entries of a sorted column below a value, looking at few of its chunks: each may be a page to read."""
    chunks = [chunk for chunk in order.chunks if len(chunk)]
    number = bisect_left(chunks, value, key=lambda chunk: chunk[0].as_py()) - 1
    if number < 0:
        return 0
    before = sum(len(chunk) for chunk in chunks[:number])
    return before + int(np.searchsorted(chunks[number].to_numpy(), np.uint64(value)))


def distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Sort numbers, each once. Of 4 million, numpy's `unique` makes a hash table first: 3.8 s instead of 0.04."""
    values = np.sort(values)
    new = np.ones(len(values), np.bool_)
    new[1:] = values[1:] != values[:-1]
    return values[new]


def ranges(count: int) -> Iterator[tuple[int, int]]:
    """Cut the 64-bit numbers into `count` even ranges."""
    bounds = [WHOLE * number // count for number in range(count + 1)]
    yield from pairwise(bounds)


def places(task: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the places of some rows of a task: sorted like the input."""
    return (np.uint64(task) << np.uint64(ROW_BITS)) | rows.astype(np.uint64)


def of_task(task: int) -> tuple[int, int]:
    """Return the range of a task's places."""
    return task << ROW_BITS, (task + 1) << ROW_BITS
