"""Put the rows of all tasks into one order by a hash: a shuffle over everything, in bounded memory.

Each task leaves its rows as runs, sorted by the column ORDER, one for each split. An output shard is an even range of
hashes: its rows are found in every run by bisection, read through the memory map, sorted together and written. Rows of
equal hash keep the order of the input. Nothing of this depends on the workers, and a shard that was written before a
crash is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from gptctl.core.context import Context
from gptctl.io.dataset import checked_json, shards
from gptctl.io.dataset.manifest import Shard
from gptctl.executors import Executor
from gptctl.pipeline.sorted_runs import rows_between

ORDER = "order"
RUNS = "work/runs"
# Rows of one output shard; a worker holds a few times as much.
SHARD_BYTES = 64 * 2**20

Finish = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Part:
    """One output shard: the rows of a split whose hashes begin with the bits of `number`."""

    split: str
    number: int
    bits: int
    runs: tuple[Shard, ...]

    @property
    def name(self) -> str:
        """Name the shard within its folder."""
        return f"shards/{self.split}/part-{self.number:05d}.arrow"

    def key(self) -> str:
        """Identify what the shard is made of."""
        return xxhash.xxh3_128_hexdigest(f"{self.name} {self.bits} {[run.xxh3_128 for run in self.runs]}".encode())


def hashes(ids: pa.Array, seed: int) -> pa.Array:
    """Give each id's place in the order: xxh64 of its UTF-8 bytes under the seed."""
    within = seed % 2**64
    return pa.array([xxhash.xxh64_intdigest(name.encode(), within) for name in ids.to_pylist()], pa.uint64())


def sort(rows: pa.Table) -> pa.Table:
    """Sort rows by ORDER; equals stay as they are."""
    order = np.argsort(rows[ORDER].to_numpy(), kind="stable")
    return rows.take(pa.array(order))


def merge(
    out: Path,
    runs: list[Shard],
    splits: tuple[str, ...],
    finish: Finish,
    executor: Executor,
    workers: int,
    context: Context,
) -> list[Shard]:
    """Write the shards of all splits from the runs below OUT/work/runs; `finish` gives a shard's final columns."""
    parts = list(plan(runs, splits))
    made: list[Shard] = []
    for shard in executor(partial(write_part, out, finish), parts, workers):
        if shard.rows:
            made.append(shard)
        context.progress(len(made), len(parts), "shards in order")
        context.stop.check("stopped")
    return made


def plan(runs: list[Shard], splits: tuple[str, ...]) -> Iterator[Part]:
    """Yield the output shards: for each split as many as keep them below SHARD_BYTES on average, a power of two."""
    for split in splits:
        own = tuple(run for run in runs if run.split == split)
        bits = max(0, (sum(run.bytes for run in own) - 1) // SHARD_BYTES).bit_length()
        for number in range(2**bits if own else 0):
            yield Part(split, number, bits, own)


def write_part(out: Path, finish: Finish, part: Part) -> Shard:
    """Write one output shard, or give its record where it stands."""
    record = out / "work" / f"{part.split}-{part.number:05d}.json"
    if found := checked_json.read(record):
        shard = Shard(**found["shard"])
        if found["key"] == part.key() and (not shard.rows or shards.has_size(out, shard)):
            return shard
    pieces = [rows_within(out / RUNS, run, part) for run in part.runs]
    rows = sort(pa.concat_tables(pieces).combine_chunks())
    shard = shards.write_shard(out, part.name, finish(rows), None) if len(rows) else Shard(part.name, 0, 0, "")
    checked_json.write(record, {"key": part.key(), "shard": shard.to_json()})
    return shard


def rows_within(folder: Path, run: Shard, part: Part) -> pa.Table:
    """Return the rows of a run that belong to a part, as views of the file."""
    table = shards.map_shard(folder, run)
    shift = 64 - part.bits
    names = [ORDER, *(name for name in table.column_names if name != ORDER)]
    return rows_between(table.select(names), part.number << shift, (part.number + 1) << shift)
