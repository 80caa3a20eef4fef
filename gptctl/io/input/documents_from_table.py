"""Tables of documents from Arrow tables with any columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import NO_TEXT_COLUMN, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.documents_from_rows import documents_from_rows, free_name, infer_column, no_id_column
from gptctl.io.input.usual_columns import text_column_of_table


def documents_from_table(table: pa.Table, first_row: int, name: str, options: ReadOptions) -> ReadResult:
    """Return the documents of a table, and the rows that have no usable text.

    `first_row` is the number of the table's first row in the file `name`; a row without an id gets one made of both.
    Raises DataError (3) if the text column is missing or holds no text.
    """
    if options.whole_records:
        positions = [f"row {row}" for row in range(first_row, first_row + len(table))]
        return documents_from_rows([without_nulls(row) for row in table.to_pylist()], positions, name, options)
    if options.text_column == NO_TEXT_COLUMN:
        table = table.append_column(NO_TEXT_COLUMN, pa.array([""] * len(table), pa.large_string()))
    if options.usual_columns:
        options = replace(options, text_column=text_column_of_table(table, options.text_column))
    check_columns(table, name, options)
    table = pa.table({column: filterable(table[column]) for column in table.column_names})
    text = text_column(table, name, options)
    too_long = pc.greater(pc.binary_length(text), options.max_doc_bytes)
    usable = pc.and_(pc.is_valid(text), pc.invert(pc.fill_null(too_long, False)))
    rows = pa.array(range(first_row, first_row + len(table)), pa.int64())
    unusable = pc.invert(usable)
    lengths = pc.binary_length(text.filter(unusable)).to_pylist()
    unreadable = [
        UnreadableRecord(
            name, f"row {row}", "text is null" if length is None else f"longer than {options.max_doc_bytes} bytes"
        )
        for row, length in zip(rows.filter(unusable).to_pylist(), lengths, strict=True)
    ]
    if unreadable:
        table, text, rows = table.filter(usable), text.filter(usable), rows.filter(usable)
    columns: dict[str, Any] = {
        "id": id_column(table, rows, name, options),
        "text": text,
        "source": source_column(table, name),
    }
    for column in table.column_names:
        if column not in (options.text_column, options.id_column, "source"):
            columns[free_name(column)] = table[column]
    return ReadResult(pa.table(columns), unreadable)


def check_columns(table: pa.Table, name: str, options: ReadOptions) -> None:
    """Raise DataError (3) if the text column or a named id column is missing, or if two columns have one name."""
    names = table.column_names
    if options.text_column not in names:
        raise DataError(
            f"{name} has no column '{options.text_column}'; it has: {', '.join(names) or 'none'}",
            "name the text with --text-column",
        )
    if options.id_column not in ("id", *names) and not options.usual_columns:
        raise no_id_column(name, options.id_column, names)
    if repeated := sorted({column for column in names if names.count(column) > 1}):
        raise DataError(f"{name} has two columns called '{repeated[0]}'", "give each column its own name")


def text_column(table: pa.Table, name: str, options: ReadOptions) -> pa.ChunkedArray:
    """Return the texts of a table. Raises DataError (3) if the column holds something else."""
    text = table[options.text_column]
    if options.structured and pa.types.is_nested(text.type):
        values = [None if value is None else orjson.dumps(value).decode() for value in text.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.large_string())])
    if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type) or pa.types.is_string_view(text.type)):
        raise DataError(
            f"{name}: column '{options.text_column}' holds {text.type}, not text", "choose another with --text-column"
        )
    return text.cast(pa.large_string())


def id_column(table: pa.Table, rows: pa.Array, name: str, options: ReadOptions) -> pa.ChunkedArray | pa.Array:
    """Return the ids of a table's rows, and NAME:ROW for rows without one. Raises DataError (3) for other types."""
    from_rows = pc.binary_join_element_wise(pa.scalar(f"{name}:"), rows.cast(pa.string()), "")
    if options.id_column not in table.column_names:
        return from_rows
    ids = as_strings(table[options.id_column])
    if ids is None:
        raise DataError(
            f"{name}: column '{options.id_column}' holds {table[options.id_column].type}, which cannot be an id",
            "choose another with --id-column",
        )
    return pc.coalesce(ids, from_rows)


def source_column(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    """Return the sources that a table's rows name, and the file's name for rows that name none."""
    sources = as_strings(table["source"]) if "source" in table.column_names else None
    return pc.coalesce(pa.nulls(len(table), pa.string()) if sources is None else sources, pa.scalar(name))


def filterable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column whose rows pyarrow can filter. It cannot filter string views, which polars writes."""
    if pa.types.is_primitive(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    try:
        column.slice(0, 1).take(pa.array([0] if len(column) else [], pa.int64()))
    except pa.ArrowNotImplementedError:
        return pa.chunked_array([infer_column(column.to_pylist())])
    return column


def as_strings(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column as text, or None if its type cannot be cast to text."""
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        return None


def without_nulls(value: Any) -> Any:
    """Return a value of a table without the keys that are null: all objects of a column have all its keys."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
