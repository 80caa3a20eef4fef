"""Parquet files, split at row groups."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as papq

from gptctl.io.files import UNREADABLE, damaged, open_seekable
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult
from gptctl.io.input.documents_from_table import documents_from_table
from gptctl.io.object_storage.address import is_uri

SUFFIXES = (".parquet", ".pq")


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the row groups. Small ones are grouped into one task later."""
    try:
        with open_seekable(file.path) as source:
            metadata = papq.ParquetFile(source).metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    except UNREADABLE as error:
        raise damaged(file.path, error) from error
    for group, size in enumerate(sizes):
        yield Block("parquet", file.name, file.path, group, group + 1, size=size)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Read one row group."""
    try:
        with open_seekable(block.path) as source:
            parquet = papq.ParquetFile(source, pre_buffer=is_uri(block.path))  # one request for many columns
            first_row = sum(parquet.metadata.row_group(i).num_rows for i in range(block.start))
            table = parquet.read_row_group(block.start)
            table.validate(full=True)
    except UNREADABLE as error:
        raise damaged(block.path, error) from error
    return documents_from_table(table, first_row, block.name, options)
