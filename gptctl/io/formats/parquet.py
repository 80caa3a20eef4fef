"""Parquet files, split at row groups."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as papq

from gptctl.io.files import UNREADABLE, damaged, open_seekable, read_all, split_suffixes
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult
from gptctl.io.input.documents_from_table import documents_from_table
from gptctl.io.object_storage.address import is_uri

SUFFIXES = (".parquet", ".pq")
MAX_COMPRESSED_BYTES = 2**30  # of a file that is compressed once more, which has to be in memory


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the row groups. Small ones are grouped into one task later."""
    try:
        metadata = open_parquet(file.path, version_of(file.path)).metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        sizes = [(group.total_byte_size, group.num_rows) for group in groups]
    except UNREADABLE as error:
        raise damaged(file.path, error) from error
    first_row = 0
    for group, (size, rows) in enumerate(sizes):
        yield Block("parquet", file.name, file.path, group, group + 1, size=size, first_row=first_row)
        first_row += rows


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Read one row group."""
    try:
        table = open_parquet(block.path, version_of(block.path)).read_row_group(block.start)
        table.validate(full=True)
    except UNREADABLE as error:
        raise damaged(block.path, error) from error
    return documents_from_table(table, block.first_row, block.name, options)


@lru_cache(maxsize=1)
def open_parquet(path: str, version: int) -> papq.ParquetFile:
    """Open a file and read its footer, once for row groups that are read one after the other.

    `version` tells files from each other that were written to one path.
    """
    if split_suffixes(path)[1] is None:
        return papq.ParquetFile(open_seekable(path), pre_buffer=is_uri(path))  # one request for many columns
    data = read_all(path, MAX_COMPRESSED_BYTES)
    if data is None:
        raise damaged(path, ValueError(f"longer than {MAX_COMPRESSED_BYTES} bytes; decompress it first"))
    return papq.ParquetFile(pa.BufferReader(data))


def version_of(path: str) -> int:
    """Return when a local file was changed, in nanoseconds."""
    return 0 if is_uri(path) else Path(path).stat().st_mtime_ns
