"""Arrow IPC files, split at record batches, and Arrow IPC streams that were saved as files.

Files of other programs are validated in full, because an offset outside its buffer would crash the process.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.ipc as ipc

from gptctl.io.files import UNREADABLE, damaged, open_seekable, open_stream
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult
from gptctl.io.input.documents_from_table import documents_from_table

SUFFIXES = (".arrow", ".feather", ".ipc", ".arrows")
FILE_MAGIC = b"ARROW1"
FILE_HEADER = FILE_MAGIC + b"\0\0"


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the record batches of a file. A stream is one block."""
    try:
        if file.compressed or not is_file_format(file.path):
            yield Block("arrow", file.name, file.path, size=file.size)
            return
        rows = rows_of_batches(file.path)
    except UNREADABLE as error:
        raise damaged(file.path, error) from error
    first_row = 0
    for batch, count in enumerate(rows):
        size = file.size // len(rows)
        yield Block("arrow", file.name, file.path, batch, batch + 1, size=size, first_row=first_row)
        first_row += count


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Read one record batch, or a whole stream."""
    try:
        if block.stop < 0:
            with open_decompressed(block.path) as source, ipc.open_stream(source) as reader:
                table = reader.read_all()
        else:
            with open_seekable(block.path) as source, ipc.open_file(source) as reader:
                table = pa.Table.from_batches([reader.get_batch(block.start)])
                table.validate(full=True)
                return documents_from_table(table, block.first_row, block.name, options)
        table.validate(full=True)
    except UNREADABLE as error:
        raise damaged(block.path, error) from error
    return documents_from_table(table, 0, block.name, options)


def open_decompressed(path: str) -> pa.NativeFile:
    """Open a stream, or the stream that a compressed Arrow file holds behind its header."""
    with open_stream(path) as source:
        header_bytes = len(FILE_HEADER) if source.read(len(FILE_MAGIC)) == FILE_MAGIC else 0
    source = open_stream(path)
    source.read(header_bytes)
    return source


def rows_of_batches(path: str) -> list[int]:
    """Count the rows of each record batch of a file. Only one column is read, a numeric one if there is one."""
    with open_seekable(path) as source, ipc.open_file(source) as reader:
        schema = reader.schema
    numeric = [i for i, field in enumerate(schema) if pa.types.is_primitive(field.type)]
    options = ipc.IpcReadOptions(included_fields=numeric[:1] or [0] if len(schema) else None)
    with open_seekable(path) as source, ipc.open_file(source, options=options) as reader:
        return [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]


def is_file_format(path: str) -> bool:
    """Return whether a file has Arrow's file format, as opposed to its stream format."""
    with open_seekable(path) as source:
        return bytes(source.read(len(FILE_MAGIC))) == FILE_MAGIC
