"""The columns of a file, and which of them holds the text if the user named none that the file has."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.errors import DataError
from gptctl.io import formats
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import NO_TEXT_COLUMN, ReadOptions
from gptctl.io.input.documents_from_rows import free_name
from gptctl.io.input.read_task import read_block

# The usual names of a text, the most telling first. All of them are names of columns of well-known data sets.
USUAL_NAMES = (
    "text", "question", "prompt", "sentence", "instruction", "input", "content", "query", "problem", "passage",
    "article", "document", "context", "body",
)  # fmt: skip
FIRST_BLOCK_BYTES = 2**20


def columns_of(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Return the columns of a table that was read without a text column, by the names that the input gives them."""
    original = {free_name(name): name for name in ("text", "id")}
    made = {"id", "text", "source"}  # `source` is the name of the file where the input has no such column
    return {original.get(name, name): table[name] for name in table.column_names if name not in made}


def has_columns(table: pa.Table) -> bool:
    """Return whether a table that was read without a text column comes from a format with columns."""
    return not pc.any(pc.greater(pc.binary_length(table["text"]), 0)).as_py()


def is_text(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds texts."""
    kind = column.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def usual_text_column(columns: dict[str, pa.ChunkedArray], first: str = "") -> str | None:
    """Return the first column with a usual name that has a text in at least half of its rows, or None.

    `first` is looked for before the usual names.
    """
    for name in (first, *USUAL_NAMES):
        if name in columns and is_text(columns[name]) and 2 * count_texts(columns[name]) >= len(columns[name]):
            return name
    return None


def count_texts(column: pa.ChunkedArray) -> int:
    """Count the rows of a column of texts that are neither null nor blank."""
    return int(pc.sum(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)).as_py() or 0)


def first_columns(file: InputFile, options: ReadOptions) -> dict[str, pa.ChunkedArray] | None:
    """Return the columns of the first records of a file. A file without columns, such as a text file, has None."""
    reading = replace(options, text_column=NO_TEXT_COLUMN)
    for block in formats.for_path(file.path).split_file(file, FIRST_BLOCK_BYTES, reading):
        table = read_block(block, reading).documents
        if len(table):
            return columns_of(table) if has_columns(table) else None
    return None


def find_text_column(file: InputFile, options: ReadOptions) -> str | None:
    """Return the column of a file's texts: that of the options, or one with a usual name; None if it has no columns.

    Raises DataError (3), which names the columns, if none of them is a text of a usual name.
    """
    columns = first_columns(file, options)
    if columns is None:
        return None
    found = usual_text_column(columns, options.text_column)
    if found is None:
        raise no_text_column(file.name, options.text_column, columns)
    return found


def no_text_column(name: str, wanted: str, columns: dict[str, pa.ChunkedArray]) -> DataError:
    """Return the error for a file that lacks a text column. It names the columns that the file has."""
    return DataError(f"{name} has no column '{wanted}' of texts; it has: {', '.join(columns) or 'none'}")
