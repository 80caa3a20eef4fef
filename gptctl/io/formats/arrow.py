"""Arrow IPC files, split at record batches, and Arrow IPC streams saved as files.

Foreign files are validated in full: an offset that points outside its buffer would crash the process otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.ipc as ipc

from gptctl.io.files import damaged, open_random, open_stream
from gptctl.io.formats import InputFile
from gptctl.io.records import Bad, Block, ReadOptions, from_table

SUFFIXES = (".arrow", ".feather", ".ipc", ".arrows")
FILE_MAGIC = b"ARROW1"


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the record batches of a file; a stream is one block."""
    try:
        if file.compressed or not is_file_format(file.path):
            yield Block("arrow", file.name, file.path, size=file.size)
            return
        with open_random(file.path) as source, ipc.open_file(source) as reader:
            batches = reader.num_record_batches
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(file.path, error) from error
    for batch in range(batches):
        yield Block("arrow", file.name, file.path, batch, batch + 1, size=file.size // batches)


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[Bad]]:
    """Read one record batch, or a whole stream."""
    try:
        if block.stop < 0:
            with open_stream(block.path) as source, ipc.open_stream(source) as reader:
                table, first_row = reader.read_all(), 0
        else:
            with open_random(block.path) as source, ipc.open_file(source) as reader:
                first_row = sum(reader.get_batch(i).num_rows for i in range(block.start))
                table = pa.Table.from_batches([reader.get_batch(block.start)])
                table.validate(full=True)
                return from_table(table, first_row, block.name, options)
        table.validate(full=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(block.path, error) from error
    return from_table(table, first_row, block.name, options)


def is_file_format(path: str) -> bool:
    """Tell Arrow's file format from its stream format."""
    with open_random(path) as source:
        return bytes(source.read(len(FILE_MAGIC))) == FILE_MAGIC
