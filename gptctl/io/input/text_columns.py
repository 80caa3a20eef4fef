"""The columns of files, as the input gives them, and which one holds the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.errors import DataError, UsageError
from gptctl.io import formats
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import NO_TEXT_COLUMN, ReadOptions
from gptctl.io.input.documents_from_rows import free_name
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_block
from gptctl.io.input.usual_columns import is_text, usual_text_column

FIRST_BLOCK_BYTES = 2**20


def open_inputs(arguments: Sequence[str], options: ReadOptions) -> Inputs:
    """Resolve the INPUT arguments of a data stage. Raises what `Inputs` and `check_column_options` raise."""
    inputs = Inputs(arguments, options)
    check_column_options(inputs)
    return inputs


def check_column_options(inputs: Inputs) -> None:
    """Raise UsageError (2) if a column is named and no input has columns."""
    named = {"--text-column": inputs.options.text_column, "--id-column": inputs.options.id_column}
    given = [name for name, column in named.items() if column != name.removeprefix("--").removesuffix("-column")]
    if given and inputs.files and not inputs.datasets and not any(formats.has_columns(f.path) for f in inputs.files):
        raise UsageError(
            f"{' and '.join(given)} cannot have an effect: {inputs.files[0].name} and the others have no columns",
            "leave it out, or name JSON lines, CSV, Parquet or Arrow files",
        )


def columns_of(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Return the columns of a table that was read without a text column, by the names that the input gives them."""
    original = {free_name(name): name for name in ("text", "id")}
    made = {"id", "text", "source"}  # `source` is the name of the file where the input has no such column
    return {original.get(name, name): table[name] for name in table.column_names if name not in made}


def has_columns(table: pa.Table) -> bool:
    """Return whether a table that was read without a text column comes from a format with columns."""
    return not pc.any(pc.greater(pc.binary_length(table["text"]), 0)).as_py()


def first_columns(file: InputFile, options: ReadOptions) -> dict[str, pa.ChunkedArray] | None:
    """Return the columns of the first records of a file. A file without columns, such as a text file, has None."""
    reading = replace(options, text_column=NO_TEXT_COLUMN)
    for block in formats.for_path(file.path).split_file(file, FIRST_BLOCK_BYTES, reading):
        table = read_block(block, reading).documents
        if len(table):
            return columns_of(table) if has_columns(table) else None
    return None


def describe_text_column(inputs: Inputs, option: str) -> str:
    """Return a sentence on the column that the first file's texts are in, if it is another than the one asked for.

    `option` is the one that names the files. Raises DataError (3), which names the columns, if none is found.
    """
    if not inputs.files:
        return ""
    file, wanted = inputs.files[0], inputs.options.text_column
    columns = first_columns(file, inputs.options)
    if columns is None or (wanted in columns and is_text(columns[wanted])):
        return ""
    if found := usual_text_column(columns):
        return f"{option}: the texts are in column '{found}' of {file.name}"
    raise DataError(
        f"{option}: {file.name} has no column '{wanted}' of texts; it has: {', '.join(columns) or 'none'}",
        "name the column that holds the text with --text-column",
    )
