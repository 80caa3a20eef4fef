"""Tables of documents from Arrow tables with any columns."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import NO_TEXT_COLUMN, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.documents_from_rows import documents_from_rows, free_name, infer_column, no_id_column
from gptctl.io.input.usual_columns import name_text_column, text_column_of_table


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
    table = with_nested(table, options)
    check_columns(table, name, options)
    table = pa.table({column: filterable(table[column]) for column in table.column_names})
    text, is_undecodable = text_column(table, name, options)
    too_long = pc.greater(pc.binary_length(text), options.max_doc_bytes)
    usable = pc.and_(pc.is_valid(text), pc.invert(pc.fill_null(too_long, False)))
    rows = pa.array(range(first_row, first_row + len(table)), pa.int64())
    reason = pc.if_else(pc.is_valid(text), f"longer than {options.max_doc_bytes} bytes", "text is null")
    reason = pc.if_else(is_undecodable, "not UTF-8", reason).filter(pc.invert(usable)).to_pylist()
    positions = rows.filter(pc.invert(usable)).to_pylist()
    unreadable = [UnreadableRecord(name, f"row {row}", why) for row, why in zip(positions, reason, strict=True)]
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
            "leave out --text-column" if "text" in names else name_text_column(names),
        )
    if options.id_column not in ("id", *names) and not options.usual_columns:
        raise no_id_column(name, options.id_column, names)
    if repeated := sorted(column for column, count in Counter(names).items() if count > 1):
        raise DataError(f"{name} has two columns called '{repeated[0]}'", "give each column its own name")


def with_nested(table: pa.Table, options: ReadOptions) -> pa.Table:
    """Return a table with a column "content.text" for the field "text" of "content", if that is asked for."""
    for column in (options.text_column, options.id_column):
        first, *fields = column.split(".")
        if fields and column not in table.column_names and first in table.column_names:
            with contextlib.suppress(pa.ArrowException):  # there is no such field, as check_columns will say
                table = table.append_column(column, pc.struct_field(table[first], fields))
    return table


def text_column(table: pa.Table, name: str, options: ReadOptions) -> tuple[pa.ChunkedArray, pa.BooleanArray]:
    """Return the texts of a table, and which of them are bytes that are not UTF-8, with null as text.

    Raises DataError (3) if the column holds something else.
    """
    text = table[options.text_column]
    if pa.types.is_dictionary(text.type):
        text = text.cast(text.type.value_type)
    no_row = pa.array(np.zeros(len(text), bool))
    if options.structured and pa.types.is_nested(text.type):
        values = [None if value is None else orjson.dumps(value).decode() for value in text.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.large_string())]), no_row
    if is_binary(text.type):
        try:
            return text.cast(pa.large_binary()).cast(pa.large_string()), no_row
        except pa.ArrowInvalid:
            decoded = [decode(value) for value in text.to_pylist()]
            made = pa.chunked_array([pa.array(decoded, pa.large_string())])
            return made, pc.and_(pc.is_valid(text), pc.is_null(made)).combine_chunks()
    if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type) or pa.types.is_string_view(text.type)):
        raise DataError(
            f"{name}: column '{options.text_column}' holds {text.type}, not text", "choose another with --text-column"
        )
    return text.cast(pa.large_string()), no_row


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a type is one of bytes, as Spark and Impala write texts."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def decode(value: bytes | None) -> str | None:
    """Return bytes as text, or null if they are not UTF-8."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


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
