"""Shuffle: put the rows of all tasks into one order, that of a hash, in bounded memory.

Each task writes its rows as runs, one per split, sorted by the column ORDER. An output shard is a range of hashes. Its
rows are found in every run by bisection, read through the memory map, sorted together and written. Rows of equal hash
keep the order of the input. The result does not depend on the workers, and a shard that was written before a crash is
not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from gptctl.core import checked_json
from gptctl.core.context import Context
from gptctl.executors import Executor
from gptctl.io.dataset import shards
from gptctl.io.dataset.manifest import Shard
from gptctl.io.dataset.shard_format import MAPPED
from gptctl.pipeline.sorted_runs import rows_between

ORDER = "order"
RUNS = "work/runs"
# Average size of an output shard. A worker needs a few times as much memory.
SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class HashRange:
    """One output shard: the rows of a split whose hashes begin with the `bits` bits of `number`."""

    split: str
    number: int
    bits: int
    runs: tuple[Shard, ...]

    @property
    def path(self) -> str:
        """Return the path of the shard within the output folder."""
        return f"shards/{self.split}/part-{self.number:05d}.arrow"

    def key(self) -> str:
        """Return a key of everything that the shard is made from."""
        return xxhash.xxh3_128_hexdigest(f"{self.path} {self.bits} {[run.xxh3_128 for run in self.runs]}".encode())


@dataclass(frozen=True)
class ShuffleMerge:
    """Merges the runs below OUT/work/runs into shards. `finalize` gives a shard's rows their final columns."""

    folder: Path
    finalize: Callable[[pa.Table], pa.Table]

    def run(self, runs: list[Shard], splits: Sequence[str], executor: Executor, context: Context) -> list[Shard]:
        """Write the shards of all splits, and return those that are not empty."""
        ranges = list(hash_ranges(runs, splits))
        written: list[Shard] = []
        for shard in executor.map(self.write_shard, ranges):
            if shard.rows:
                written.append(shard)
            context.progress(len(written), len(ranges), "shards in order")
            context.stop.check("stopped")
        return written

    def write_shard(self, hash_range: HashRange) -> Shard:
        """Write one output shard, unless an earlier run has written it."""
        record = self.folder / "work" / f"{hash_range.split}-{hash_range.number:05d}.json"
        if stored := checked_json.read(record):
            shard = Shard(**stored["shard"])
            if stored["key"] == hash_range.key() and (not shard.rows or shards.has_size(self.folder, shard)):
                return shard
        pieces = [rows_in_range(self.folder / RUNS, run, hash_range) for run in hash_range.runs]
        rows = sort(pa.concat_tables(pieces).combine_chunks())
        if len(rows):
            shard = shards.write_shard(self.folder, hash_range.path, self.finalize(rows), MAPPED)
        else:
            shard = Shard(hash_range.path, 0, 0, "")
        checked_json.write(record, {"key": hash_range.key(), "shard": shard.to_json()})
        return shard


def hashes(ids: pa.Array, seed: int) -> pa.Array:
    """Return the position of each id in the order: xxh64 of its UTF-8 bytes under the seed."""
    seed64 = seed % 2**64
    return pa.array([xxhash.xxh64_intdigest(name.encode(), seed64) for name in ids.to_pylist()], pa.uint64())


def sort(rows: pa.Table) -> pa.Table:
    """Sort rows by ORDER. Rows of equal hash keep their order."""
    order = np.argsort(rows[ORDER].to_numpy(), kind="stable")
    return rows.take(pa.array(order))


def hash_ranges(runs: list[Shard], splits: Sequence[str]) -> Iterator[HashRange]:
    """Yield the output shards: for each split a power of two of them, so that on average they are below SHARD_BYTES."""
    for split in splits:
        own = tuple(run for run in runs if run.split == split)
        bits = max(0, (sum(run.bytes for run in own) - 1) // SHARD_BYTES).bit_length()
        for number in range(2**bits if own else 0):
            yield HashRange(split, number, bits, own)


def rows_in_range(folder: Path, run: Shard, hash_range: HashRange) -> pa.Table:
    """Return the rows of a run whose hashes lie in a range, as views of the file."""
    table = shards.map_shard(folder, run)
    shift = 64 - hash_range.bits
    names = [ORDER, *(name for name in table.column_names if name != ORDER)]
    return rows_between(table.select(names), hash_range.number << shift, (hash_range.number + 1) << shift)
