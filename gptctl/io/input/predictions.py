"""Predictions of any system: rows of id, label, pred and optional probs, as JSON lines, CSV, Parquet or Arrow."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.fs as pafs

from gptctl.core.errors import DataError, UsageError, from_os_error
from gptctl.io.dataset import shards
from gptctl.io.dataset.schema import fact, with_kind
from gptctl.io.dataset.shard_format import read_table
from gptctl.io.files import CHUNK_BYTES, UNREADABLE, damaged, open_stream, plain_path, split_suffixes
from gptctl.io.formats import InputFile, csv
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.documents_from_rows import infer_column
from gptctl.io.object_storage.address import file_info
from gptctl.io.recognize import recognize, wrong_content

Rows = list[dict[str, Any]]
KINDS = ("predictions", "scores", "choices")
ANY_TABLE = ReadOptions()
AS_TEXT = ("id", "label", "pred")


@dataclass(frozen=True)
class Predictions:
    """The rows, and facts about all of them: their type, and the metadata of each split."""

    rows: Rows
    facts: dict[str, Any] = field(default_factory=dict)


def read_predictions(path: str, reading: ReadOptions = ANY_TABLE) -> Predictions:
    """Read predictions from a file, a folder that `gptctl eval -o` wrote, or "-" (JSON lines on standard input).

    `reading` has the encoding and the dialect of a CSV file.
    A row without an id gets its position as id. Raises UsageError (2) if the path does not exist. Raises DataError (3)
    for an unreadable file, and for an id that occurs twice in a split.
    """
    found = read_rows(path, reading)
    seen: set[tuple[Any, str]] = set()
    for number, row in enumerate(found.rows):
        if row.get("id") is None:
            row["id"] = number
        if not isinstance(row.get("split"), str | None):
            raise DataError(f"{path}: row {number + 1} has a split that is not text", "name it train, val or test")
        place = (row.get("split"), str(row["id"]))
        if place in seen:
            raise DataError(f"{path}: row {number + 1} repeats the id '{row['id']}'", "ids must be unique")
        seen.add(place)
    return found


def read_rows(path: str, reading: ReadOptions = ANY_TABLE) -> Predictions:
    """Read a table of any of the formats as Python rows."""
    if path == "-":
        return Predictions(json_lines(sys.stdin.buffer.read(), "standard input"))
    path = plain_path(path)
    place = file_info(path)
    if place.type == pafs.FileType.NotFound:
        raise UsageError(f"no such file or folder: {path}", "--predictions takes a file, a folder of gptctl eval, or -")
    content = recognize(path)
    if content.kind in KINDS and content.manifest:
        return of_table(shards.read_rows(path, content.manifest))
    if content.kind != "texts" or place.type == pafs.FileType.Directory:
        raise wrong_content(content, "predictions")
    suffix = split_suffixes(path)[0]
    if suffix in csv.SUFFIXES:
        return Predictions([row | numbers(row) for row in csv_rows(path, reading)])
    try:
        with open_stream(path) as source:
            data: bytes = source.read()
        return parse(data, suffix, path)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno:
            raise from_os_error(error, path) from error
        raise damaged(path, error) from error


def parse(data: bytes, suffix: str, path: str) -> Predictions:
    """Parse a file's bytes into rows, by its suffix. A file with an unknown suffix is read as JSON lines."""
    if suffix in (".arrow", ".feather", ".ipc", ".parquet"):
        return of_table(read_table(data, suffix))
    return Predictions(json_lines(data, path))


def csv_rows(path: str, reading: ReadOptions) -> Rows:
    """Return the rows of a CSV file. Raises DataError (3) for a bad row: a score must not depend on it."""
    rows: Rows = []
    for block in csv.split_file(InputFile(path, path, file_info(path).size or 0), CHUNK_BYTES, reading):
        found = csv.read_table(block)
        for bad in found.unreadable:
            raise DataError(f"{path}: {bad.position}: {bad.reason}", "correct the row; see csv.delimiter and csv.quote")
        rows += found.documents.to_pylist()
    return rows


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return the columns of a CSV row that are always numbers. Raises DataError (3) if one is not a number."""
    try:
        return {name: float(row[name]) for name in ("nats", "bytes", "tokens") if row.get(name) is not None}
    except ValueError as error:
        raise DataError(f"a CSV row has something else than a number: {error}", "correct or remove it") from error


def of_table(table: pa.Table) -> Predictions:
    """Validate a table and return it as Python rows."""
    table.validate(full=True)
    known = fact(table.schema, "facts")
    return Predictions(table.to_pylist(), orjson.loads(known) if known else {})


def json_lines(data: bytes, path: str) -> Rows:
    """Parse JSON lines. Raises DataError (3) for a bad line: a score must not depend on which lines are readable."""
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


def to_table(rows: Rows, kind: str, facts: dict[str, Any]) -> pa.Table:
    """Return rows as a table of their kind. A column that a row lacks is null there.

    Ids are text. Labels and predictions are text or lists of text, except in multiple choice, where they are the
    numbers of choices.
    """
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        texts = name == "id" or (name in AS_TEXT and kind == "predictions")
        columns[name] = text_column(values) if texts else infer_column(values)
    table = pa.table(columns)
    known = {"facts": orjson.dumps(facts).decode()} if facts else {}
    return table.replace_schema_metadata(with_kind(table.schema, kind, **known).metadata)


def text_column(values: Iterable[Any]) -> pa.Array:
    """Return a column of text, or of lists of text if any value is a list. 1 and "1" are the same label."""
    given = list(values)
    if any(isinstance(value, list) for value in given):
        lists = [value if isinstance(value, list) or value is None else [value] for value in given]
        return pa.array([None if v is None else [text_of(item) for item in v] for v in lists], pa.list_(pa.string()))
    return pa.array([text_of(value) for value in given], pa.string())


def text_of(value: Any) -> str | None:
    """Return a value as text. A whole number is written without a fraction, so that 1.0 and 1 are the same label."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None if value is None else str(value)
