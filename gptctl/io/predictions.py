"""Predictions of any system: rows of id, label, pred and perhaps probs, as JSON lines, CSV, Parquet or Arrow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from gptctl.core.errors import DataError, UsageError, from_os_error
from gptctl.core.rundir import MANIFEST
from gptctl.io import manifest, shards
from gptctl.io.files import damaged, open_stream, split_suffixes

Rows = list[dict[str, Any]]
COLUMNS = ("id", "label", "pred")


def read_predictions(path: str) -> Rows:
    """Read predictions from a file, a folder that `gptctl eval -o` wrote, or "-" (JSON lines on standard input).

    Rows get an id by position where the file has none. Raises UsageError (2) for a missing path; DataError (3) for an
    unreadable file, no row, a missing column, a null label or a duplicate id, naming the row.
    """
    rows = read_rows(path)
    if not rows:
        raise DataError(f"{path}: 0 rows", "a predictions file has one row per example: id, label, pred")
    seen: set[tuple[Any, str]] = set()
    for number, row in enumerate(rows):
        for column in COLUMNS[1:]:
            if column not in row:
                raise DataError(
                    f"{path} has no column '{column}' in row {number + 1}; it has: {', '.join(row)}",
                    "rows need label and pred",
                )
        if row["label"] is None:
            raise DataError(f"{path}: row {number + 1} has no label", "fill or remove it")
        if row.get("id") is None:
            row["id"] = number
        identity = str(row["id"])
        place = (row.get("split"), identity)
        if place in seen:
            raise DataError(f"{path}: row {number + 1} repeats the id '{identity}'", "ids must be unique")
        seen.add(place)
        probs = row.get("probs")
        if probs is not None and not are_numbers(probs):
            raise DataError(
                f"{path}: row {number + 1} has a probability that is not a number", "NaN and null are refused"
            )
    return rows


def are_numbers(values: Any) -> bool:
    """Tell whether a value is a list of numbers without NaN."""
    return isinstance(values, list) and all(isinstance(value, int | float) and value == value for value in values)


def read_rows(path: str) -> Rows:
    """Read a table of any of the formats as Python rows."""
    if path == "-":
        return json_lines(sys.stdin.buffer.read(), "standard input")
    place = Path(path)
    if not place.exists():
        raise UsageError(f"no such file or folder: {path}", "--predictions takes a file, a folder of gptctl eval, or -")
    if (place / MANIFEST).exists():
        found = manifest.read(place)
        if found.kind != "predictions":
            raise DataError(
                f"{path} holds {found.kind}, not predictions", "it is written by: gptctl eval MODEL DATA -o OUT"
            )
        return rows_of(shards.read_rows(place, found))
    try:
        with open_stream(path) as source:
            data: bytes = source.read()
        return parse(data, split_suffixes(path)[0], path)
    except pa.ArrowInvalid as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise from_os_error(error, path) if error.errno else damaged(path, error) from error


def parse(data: bytes, suffix: str, path: str) -> Rows:
    """Turn a file's bytes into rows by its suffix; what has none of the known ones is JSON lines."""
    if suffix in (".csv", ".tsv"):
        delimiter = pacsv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ",")
        names = pacsv.open_csv(pa.BufferReader(data), parse_options=delimiter).schema.names
        as_text = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))  # a label "01" is not 1
        return rows_of(pacsv.read_csv(pa.BufferReader(data), parse_options=delimiter, convert_options=as_text))
    if suffix == ".parquet":
        return rows_of(papq.read_table(pa.BufferReader(data)))
    if suffix in (".arrow", ".feather", ".ipc"):
        return rows_of(shards.table_from(data))
    return json_lines(data, path)


def rows_of(table: pa.Table) -> Rows:
    """Give a table as Python rows, checking it first."""
    table.validate(full=True)
    rows: Rows = table.to_pylist()
    return rows


def json_lines(data: bytes, path: str) -> Rows:
    """Parse JSON lines strictly: a score must not depend on which lines happened to be readable."""
    rows: Rows = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise DataError(
                f"{path}: line {number} is not JSON: {str(error).split(':')[0]}", "one JSON object per line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is not a JSON object", "one JSON object per line")
        rows.append(row)
    return rows
