"""Tables of documents from JSON-like rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.io.dataset.schema import as_text
from gptctl.io.input.blocks import NO_TEXT_COLUMN, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.usual_columns import text_column_of_rows

EXCERPT_CHARACTERS = 200
MAX_COLUMNS = 10_000
MAX_NAMED_COLUMNS = 20  # of a row that lacks the one that was wanted
MAX_DENSE_COLUMNS = 256  # with more, most keys are in few of the rows


def documents_from_rows(rows: Sequence[Any], positions: Sequence[str], name: str, options: ReadOptions) -> ReadResult:
    """Return the documents of some rows, and the rows that have no usable text.

    `positions` says where each row stands in the file `name`; a row without an id gets one made of both.
    """
    if options.whole_records:
        rows = [record_as_text(row, options.id_column) for row in rows]
        options = replace(options, text_column="text")
    if options.text_column == NO_TEXT_COLUMN:
        rows = [row | {NO_TEXT_COLUMN: ""} if isinstance(row, dict) else row for row in rows]
    if options.usual_columns:
        options = replace(options, text_column=text_column_of_rows(rows, options.text_column))
    rows = with_nested(rows, options)
    if options.structured:
        rows = [with_json_text(row, options.text_column) for row in rows]
    unreadable: list[UnreadableRecord] = []
    texts = texts_if_all_usable(rows, options)
    if texts is None:
        problems = [problem_of(row, options) for row in rows]
        unreadable = [
            UnreadableRecord(name, position, problem, excerpt(row), columns_of(row, problem))
            for row, position, problem in zip(rows, positions, problems, strict=True)
            if problem
        ]
        usable = [number for number, problem in enumerate(problems) if not problem]
        rows, positions = [rows[number] for number in usable], [positions[number] for number in usable]
        texts = pa.array([row[options.text_column] for row in rows], pa.large_string())
    keys = dict.fromkeys(chain.from_iterable(dict.fromkeys(map(tuple, rows))))
    if rows and options.id_column not in ("id", *keys) and not options.usual_columns:
        raise no_id_column(name, options.id_column, list(keys))
    if len(keys) > MAX_COLUMNS:
        raise too_many_columns(name, len(keys))
    ids = [
        f"{name}:{position.rsplit(' ', 1)[-1]}" if row.get(options.id_column) is None else id_of(row[options.id_column])
        for row, position in zip(rows, positions, strict=True)
    ]
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.string()),
        "text": texts,
        "source": source_column([row.get("source") for row in rows], name),
    }
    made = (options.text_column, options.id_column, "source")
    if len(keys) <= MAX_DENSE_COLUMNS:
        others = {key: infer_column([row.get(key) for row in rows]) for key in keys if key not in made}
    else:
        others = {key: column for key, column in sparse_columns(rows).items() if key not in made}
    columns |= {free_name(key): column for key, column in others.items()}
    return ReadResult(pa.table(columns), unreadable)


def sparse_columns(rows: Sequence[dict[str, Any]]) -> dict[str, pa.Array]:
    """Return the columns of rows with many different keys. The time is that of the values that there are."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for key in row:
            places.setdefault(key, []).append(place)
    columns: dict[str, pa.Array] = {}
    for key, present in places.items():
        values = infer_column([rows[place][key] for place in present])
        at = np.full(len(rows), -1, np.int64)
        at[present] = np.arange(len(present))
        columns[key] = values.take(pa.array(at, mask=at < 0))
    return columns


def too_many_columns(name: str, number: int) -> DataError:
    """Return the error for records whose keys look like data."""
    return DataError(
        f"{name} has records with {number:,} different keys, and {MAX_COLUMNS:,} columns are possible",
        "put keys that are data into a list, or leave them out",
    )


def id_of(value: Any) -> str:
    """Return a value as an id. An object, a list, true and false become JSON."""
    return str(as_text(value)) if isinstance(value, dict | list | bool) else str(value)


def with_nested(rows: Sequence[Any], options: ReadOptions) -> Sequence[Any]:
    """Return rows with a key "content.text" for the value of "text" in the object "content", if that is asked for."""
    for column in (options.text_column, options.id_column):
        if "." in column and not any(isinstance(row, dict) and column in row for row in rows):
            rows = [row | nested_value(row, column) if isinstance(row, dict) else row for row in rows]
    return rows


def nested_value(row: dict[str, Any], column: str) -> dict[str, Any]:
    """Return a value inside the objects of a row by its dotted name, or nothing if it is not there."""
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, dict) or part not in value:
            return {}
        value = value[part]
    return {column: value}


def no_id_column(name: str, wanted: str, columns: Sequence[str]) -> DataError:
    """Return the error for records without the column that the user named for ids. It names the columns there are."""
    return DataError(f"{name} has no column '{wanted}'; it has: {', '.join(columns)}", "name the ids with --id-column")


def free_name(column: str) -> str:
    """Return the name of an input column in a table of documents, where "text" and "id" are taken."""
    return f"{column}_" if column in ("text", "id") else column


def with_json_text(row: Any, column: str) -> Any:
    """Turn a list or an object in a row's column into JSON text."""
    value = row.get(column) if isinstance(row, dict) else None
    return row | {column: orjson.dumps(value).decode()} if isinstance(value, list | dict) else row


def record_as_text(row: Any, id_column: str) -> Any:
    """Return a record whose text is a whole row as JSON, or null if the row is nested too deeply for that."""
    if not isinstance(row, dict):
        return row
    kept = {name: row[name] for name in (id_column, "source") if name in row}
    try:
        return kept | {"text": orjson.dumps(row, default=str).decode()}
    except orjson.JSONEncodeError:
        return kept | {"text": None}


def texts_if_all_usable(rows: Sequence[Any], options: ReadOptions) -> pa.Array | None:
    """Return the texts of rows that are all usable, as nearly always, or None if one may not be.

    Checking each row by itself took a third of the time of reading.
    """
    try:
        texts = [row[options.text_column] for row in rows]
        if not all(type(text) is str for text in texts):
            return None
        if max(map(len, texts), default=0) > options.max_doc_bytes // 4:  # a character may have four bytes
            return None
        return pa.array(texts, pa.large_string())
    except (KeyError, TypeError, UnicodeEncodeError):
        return None


def problem_of(row: Any, options: ReadOptions) -> str:
    """Return why a row cannot be a document, or "" if it can."""
    if not isinstance(row, dict):
        return "not an object"
    text = row.get(options.text_column)
    if isinstance(text, str):
        try:
            size = len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            return "text is not valid Unicode"
        return f"longer than {options.max_doc_bytes} bytes" if size > options.max_doc_bytes else ""
    if options.text_column not in row:
        return f"no column '{options.text_column}'"
    return "text is null" if text is None else "text is not a string"


def source_column(values: Sequence[Any], name: str) -> pa.Array:
    """Return the sources that the rows name, with the file's name for rows that name none."""
    return pa.array([value if isinstance(value, str) else name for value in values], pa.string())


def infer_column(values: list[Any]) -> pa.Array:
    """Return values as a column of the narrowest Arrow type that holds them all, or as JSON text if none does."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([as_text(value) for value in values], pa.string())


def columns_of(row: Any, problem: str) -> tuple[str, ...]:
    """Return the names of the first columns of a row that lacks the one that was wanted."""
    return tuple(islice(row, MAX_NAMED_COLUMNS)) if problem.startswith("no column") else ()


def excerpt(row: Any) -> str:
    """Return the start of a row that could not be read."""
    try:
        return orjson.dumps(row).decode()[:EXCERPT_CHARACTERS]
    except (TypeError, ValueError):
        return repr(row)[:EXCERPT_CHARACTERS]
