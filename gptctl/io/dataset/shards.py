"""Shard files: Arrow tables that are written and read with their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.ipc as ipc
import xxhash

from gptctl.core import atomic
from gptctl.core.regular_files import check_regular
from gptctl.io.dataset.manifest import Folder, Manifest, Shard, damaged_shard, read_shard, verify_shard
from gptctl.io.dataset.schema import kind_of
from gptctl.io.dataset.shard_format import ARROW, ShardFormat, is_parquet, read_groups, read_table
from gptctl.io.object_storage.address import is_uri


class HashedFile:
    """A file that is written, with the size and the hash of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.digest = xxhash.xxh3_128()
        self.closed = False

    def write(self, data: bytes) -> None:
        """Write bytes."""
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is complete."""

    def close(self) -> None:
        """Do nothing: who opened the file closes it."""


def write_shard(
    folder: Path, path: str, table: pa.Table, storage: ShardFormat = ARROW, flush: atomic.Flush = "all"
) -> Shard:
    """Write a table as a file below `folder`. Equal tables give equal bytes, whatever their chunks."""
    with atomic.atomic_file(folder / path, flush) as file:
        written = HashedFile(file)
        with pa.PythonFile(written, mode="w") as sink:
            storage.write(table, sink)
    tokens = sum(len(chunk.flatten()) for chunk in table["tokens"].chunks) if kind_of(table.schema) == "tokens" else 0
    return Shard(path, len(table), written.size, written.digest.hexdigest(), tokens)


def has_size(folder: Path, shard: Shard) -> bool:
    """Return whether a shard exists with its size. Its readers verify the checksum."""
    path = folder / shard.path
    return path.is_file() and path.stat().st_size == shard.bytes


def map_verified(folder: Path, shard: Shard) -> pa.Table:
    """Memory-map a shard after a comparison with its checksum, for which all of it is read once.

    Raises DataError (3) if it is missing, truncated or changed.
    """
    return read_table(map_file(folder, shard), shard.path)


def map_file(folder: Path, shard: Shard) -> pa.Buffer:
    """Memory-map a shard's file and verify it. Raises DataError (3) if it is missing, truncated or changed."""
    check_regular(folder / shard.path)
    try:
        with pa.memory_map(str(folder / shard.path)) as source:
            data = source.read_buffer()
    except FileNotFoundError as error:
        raise damaged_shard(folder, f"shard is missing: {folder / shard.path}") from error
    verify_shard(folder, shard, memoryview(data))
    return data


def read_parts(folder: Folder, shard: Shard) -> Iterator[pa.Table]:
    """Verify a shard, then yield its row groups if it is Parquet, or all of it. There is at least one table."""
    if not is_parquet(shard.path):
        yield read_table(read_shard(folder, shard), shard.path)
        return
    data = read_shard(folder, shard) if is_uri(folder) else map_file(Path(folder), shard)
    yield from read_groups(pa.BufferReader(data), shard.path)


def map_shard(folder: Path, shard: Shard) -> pa.Table:
    """Memory-map a shard. Columns of uncompressed shards are views of the file, which is read as they are used."""
    check_regular(folder / shard.path)
    with pa.memory_map(str(folder / shard.path)) as source, ipc.open_file(source) as reader:
        return reader.read_all()


def read_rows(folder: Folder, manifest: Manifest, split: str = "", limit: int | None = None) -> pa.Table:
    """Read the rows of a dataset, or of one of its splits, in order, and verify each shard."""
    tables: list[pa.Table] = []
    rows = 0
    for shard in manifest.shards:
        if split and shard.split != split:
            continue
        tables.append(read_table(read_shard(folder, shard), shard.path))
        rows += len(tables[-1])
        if limit is not None and rows >= limit:
            break
    table = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    return table if limit is None else table.slice(0, limit)
