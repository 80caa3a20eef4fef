"""The formats of shard files: Arrow IPC, and Parquet for other programs.

A Parquet shard has one row group per 64 MiB of values, and is written and read one row group at a time. Parquet does
not have all of Arrow's types. A column of a type that it lacks becomes JSON, and other types are those that Parquet
gives back, so a shard has the same bytes whether its rows came through a pipe, an Arrow file or a Parquet file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc

from gptctl.core.config import StorageOptions
from gptctl.io.dataset.schema import as_text, cast

ROWS_PER_BATCH = 1024  # of an Arrow file
ROW_GROUP_BYTES = 64 * 2**20
FIXED_BYTES = 8  # that count for a value of fixed size
SUFFIXES = (".arrow", ".parquet")
# Every document has its own: a dictionary of them would only be thrown away.
WITHOUT_DICTIONARY = ("id", "text")


@dataclass(frozen=True)
class ShardFormat:
    """How shards are stored. `compression` is a codec of the format, or None."""

    name: Literal["arrow", "parquet"] = "arrow"
    compression: str | None = "lz4"

    @classmethod
    def of(cls, config: Any) -> ShardFormat:
        """Return the format that a stage's config asks for. Shards of a stage without the choice are Arrow."""
        if not isinstance(config, StorageOptions):
            return ARROW
        codec = config.codec()
        return cls(config.format, None if codec == "none" else codec)

    @property
    def suffix(self) -> str:
        """Return the suffix of the files' names."""
        return f".{self.name}"

    def write(self, table: pa.Table, sink: Any) -> None:
        """Write a table to a file-like object. Equal tables give equal bytes, whatever their chunks."""
        if self.name == "parquet":
            self._write_parquet(table, sink)
            return
        whole = whole_copy(table)
        with ipc.new_file(sink, table.schema, options=ipc.IpcWriteOptions(compression=self.compression)) as writer:
            writer.write_table(whole, max_chunksize=ROWS_PER_BATCH)

    def _write_parquet(self, table: pa.Table, sink: Any) -> None:
        import pyarrow.parquet as papq

        schema = storable(table.schema)
        stored = as_stored(table, schema)
        rows = rows_per_group(stored)
        names = [name for name in schema.names if name not in WITHOUT_DICTIONARY]
        codec = self.compression or "none"
        with papq.ParquetWriter(sink, schema, compression=codec, use_dictionary=names) as writer:
            for first in range(0, len(stored), rows):
                writer.write_table(whole_copy(stored.slice(first, rows)), row_group_size=rows)


ARROW = ShardFormat()
MAPPED = ShardFormat("arrow", None)  # to be memory-mapped


def whole_copy(table: pa.Table) -> pa.Table:
    """Return a table in one chunk that shares no buffers: those of a slice hold the rows around it, too."""
    return pa.concat_tables([table, table.slice(0, 0)]).combine_chunks()


def is_parquet(path: Path | str) -> bool:
    """Return whether the name of a shard is that of a Parquet file."""
    return str(path).endswith(".parquet")


def read_table(data: pa.Buffer | bytes, path: str) -> pa.Table:
    """Decode a shard, whose format its path names. Its checksum must have been verified."""
    if is_parquet(path):
        import pyarrow.parquet as papq

        return papq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    with ipc.open_file(pa.BufferReader(data)) as reader:
        return reader.read_all()


def read_groups(source: Any, path: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the row groups or record batches of a file-like object, whose format its path names.

    A file without any yields an empty table.
    """
    if is_parquet(path):
        import pyarrow.parquet as papq

        file = papq.ParquetFile(source)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=None if columns is None else list(columns), use_threads=False)
        if not file.num_row_groups:
            yield file.schema_arrow.empty_table()
        return
    with ipc.open_file(source) as reader:
        for place in range(reader.num_record_batches):
            table = pa.Table.from_batches([reader.get_batch(place)])
            yield table if columns is None else table.select(list(columns))
        if not reader.num_record_batches:
            yield reader.schema.empty_table()


def read_schema(path: Path) -> pa.Schema:
    """Return the columns of a shard file."""
    if is_parquet(path):
        import pyarrow.parquet as papq

        return papq.read_schema(path, memory_map=True)
    return ipc.open_file(pa.memory_map(str(path))).schema


@lru_cache(maxsize=64)
def storable(schema: pa.Schema) -> pa.Schema:
    """Return the schema with which Parquet gives back a table of this schema."""
    fields = [pa.field(field.name, stored_type(field.type)) for field in schema]
    return round_trip(pa.schema(fields, schema.metadata))


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type to store: the values of a dictionary, and text for a type that Parquet does not have."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    try:
        round_trip(pa.schema([("values", kind)]))
    except pa.ArrowNotImplementedError:
        return pa.string()
    return kind


def round_trip(schema: pa.Schema) -> pa.Schema:
    """Return the schema of a Parquet file that was written with a schema. Raises ArrowNotImplementedError."""
    import pyarrow.parquet as papq

    sink = pa.BufferOutputStream()
    papq.write_table(schema.empty_table(), sink)
    return papq.read_schema(pa.BufferReader(sink.getvalue()))


def as_stored(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the types of `storable`. Values of types that Parquet does not have become JSON."""
    columns = []
    for field in schema:
        column = table[field.name]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string(field.type) and not pa.types.is_string(kind):
            columns.append(pa.array([as_text(value) for value in column.to_pylist()], pa.string()))
        else:
            columns.append(cast(column, field))
    return pa.Table.from_arrays(columns, schema=schema)


def rows_per_group(table: pa.Table) -> int:
    """Return how many rows have ROW_GROUP_BYTES of values on average. It depends on the values alone."""
    size = sum(value_bytes(column) for column in table.columns)
    return max(1, min(len(table), len(table) * ROW_GROUP_BYTES // max(size, 1)))


def value_bytes(column: pa.ChunkedArray | pa.Array) -> int:
    """Return the bytes of a column's values, those inside lists and structs too."""
    kind = column.type
    if pa.types.is_struct(kind):
        return sum(value_bytes(child) for child in column.flatten())
    if pa.types.is_nested(kind):
        chunks = getattr(column, "chunks", [column])
        parts = chain(*((c.keys, c.items) if pa.types.is_map(kind) else (c.flatten(),) for c in chunks))
        return sum(map(value_bytes, parts))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return int(pc.sum(pc.binary_length(column)).as_py() or 0)
    return FIXED_BYTES * len(column)
