"""Shard files: Arrow tables that are written and read with their checksums."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import xxhash

from gptctl.core import atomic
from gptctl.io.dataset.manifest import Folder, Manifest, Shard, damaged_shard, read_shard, verify_shard
from gptctl.io.dataset.schema import kind_of

ROWS_PER_BATCH = 1024


def write_shard(
    folder: Path, path: str, table: pa.Table, compression: str | None = "lz4", flush: atomic.Flush = "all"
) -> Shard:
    """Write a table as an Arrow IPC file below `folder`. Equal tables give equal bytes, whatever their chunks."""
    sink = pa.BufferOutputStream()
    # A slice shares its buffers with the rows around it, and some of their bytes would be written too. Joining copies.
    whole = pa.concat_tables([table, table.slice(0, 0)]).combine_chunks()
    with ipc.new_file(sink, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(whole, max_chunksize=ROWS_PER_BATCH)
    data = sink.getvalue()
    atomic.write_bytes(folder / path, data, flush)
    tokens = sum(len(chunk.flatten()) for chunk in table["tokens"].chunks) if kind_of(table.schema) == "tokens" else 0
    return Shard(path, len(table), data.size, xxhash.xxh3_128_hexdigest(data), tokens)


def has_size(folder: Path, shard: Shard) -> bool:
    """Return whether a shard exists with its size. Its readers verify the checksum."""
    path = folder / shard.path
    return path.is_file() and path.stat().st_size == shard.bytes


def table_from(data: bytes | pa.Buffer) -> pa.Table:
    """Decode a shard whose checksum was verified."""
    with ipc.open_file(pa.BufferReader(data)) as reader:
        return reader.read_all()


def map_verified(folder: Path, shard: Shard) -> pa.Table:
    """Memory-map a shard after a comparison with its checksum, for which all of it is read once.

    Raises DataError (3) if it is missing, truncated or changed.
    """
    try:
        with pa.memory_map(str(folder / shard.path)) as source:
            data = source.read_buffer()
    except FileNotFoundError as error:
        raise damaged_shard(folder, f"shard is missing: {folder / shard.path}") from error
    verify_shard(folder, shard, memoryview(data))
    return table_from(data)


def map_shard(folder: Path, shard: Shard) -> pa.Table:
    """Memory-map a shard. Columns of uncompressed shards are views of the file, which is read as they are used."""
    with pa.memory_map(str(folder / shard.path)) as source, ipc.open_file(source) as reader:
        return reader.read_all()


def read_rows(folder: Folder, manifest: Manifest, split: str = "", limit: int | None = None) -> pa.Table:
    """Read the rows of a dataset, or of one of its splits, in order, and verify each shard."""
    tables: list[pa.Table] = []
    rows = 0
    for shard in manifest.shards:
        if split and shard.split != split:
            continue
        tables.append(table_from(read_shard(folder, shard)))
        rows += len(tables[-1])
        if limit is not None and rows >= limit:
            break
    table = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    return table if limit is None else table.slice(0, limit)
