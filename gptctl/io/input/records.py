"""Documents on their way in: blocks that a worker reads, tables of documents, and lines that could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from gptctl.core.errors import DataError
from gptctl.io.dataset.schema import as_text

EXCERPT_CHARACTERS = 200


@dataclass(frozen=True)
class ReadOptions:
    """How documents are found in records. `structured`: the text may be a list or a table, which becomes JSON."""

    text_column: str = "text"
    id_column: str = "id"
    max_doc_bytes: int = 16 * 2**20
    structured: bool = False


@dataclass(frozen=True)
class UnreadableRecord:
    """One record that could not be read."""

    source: str
    position: str
    reason: str
    excerpt: str = ""

    def to_json(self) -> dict[str, str]:
        """Return a line of quarantine.jsonl."""
        return {"file": self.source, "position": self.position, "reason": self.reason, "excerpt": self.excerpt}

    @classmethod
    def from_json(cls, value: dict[str, str]) -> UnreadableRecord:
        """Undo `to_json`."""
        return cls(value["file"], value["position"], value["reason"], value["excerpt"])


@dataclass(frozen=True)
class Block:
    """A piece of input that one worker reads: a range of a file, or what came down a pipe.

    `start` and `stop` count bytes, row groups or record batches, as the format has it; `first_row` counts the rows
    before it, where that is not in the file. `name` is the file's name without the folders above the INPUT argument; it
    is all of the path that reaches a shard.
    """

    format: str
    name: str
    path: str = ""
    start: int = 0
    stop: int = -1
    size: int = 0
    data: bytes = b""
    unreadable: tuple[UnreadableRecord, ...] = ()
    checksum: str = ""
    first_row: int = 0

    def key(self) -> str:
        """Identify the block within unchanged input files, or by content where it came down a pipe."""
        content = xxhash.xxh3_128_hexdigest(self.data) if self.data else self.checksum
        return f"{self.format}|{self.name}|{self.start}|{self.stop}|{content}"


@dataclass(frozen=True)
class Task:
    """The blocks that make one output shard, and what a stage's earlier pass noted for it."""

    index: int
    blocks: tuple[Block, ...]
    note: bytes = b""

    def key(self) -> str:
        """Identify the task's input, so that a finished shard is used again only for the same input."""
        return xxhash.xxh3_128_hexdigest("\n".join(block.key() for block in self.blocks).encode() + self.note)


def from_dicts(
    rows: Sequence[dict[str, Any]], positions: Sequence[str], name: str, options: ReadOptions
) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Make a table of documents from JSON-like records; what has no usable text is returned as unreadable."""
    if options.structured:
        rows = [with_json(row, options.text_column) for row in rows]
    unreadable: list[UnreadableRecord] = []
    texts = plain_texts(rows, options)
    if texts is None:
        reasons = [why_unusable(row, options) for row in rows]
        found = zip(rows, positions, reasons, strict=True)
        unreadable = [UnreadableRecord(name, where, why, excerpt(row)) for row, where, why in found if why]
        good = [number for number, reason in enumerate(reasons) if not reason]
        rows, positions = [rows[number] for number in good], [positions[number] for number in good]
        texts = pa.array([row[options.text_column] for row in rows], pa.large_string())
    given = [row.get(options.id_column) for row in rows]
    ids = [
        f"{name}:{position.rsplit(' ', 1)[-1]}" if value is None else str(value)
        for value, position in zip(given, positions, strict=True)
    ]
    columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string()), "text": texts}
    keys = dict.fromkeys(chain.from_iterable(dict.fromkeys(map(tuple, rows))))
    others = [key for key in keys if key not in (options.text_column, options.id_column)]
    columns["source"] = source_column([row.get("source") for row in rows], name)
    for other in others:
        if other != "source":
            columns[beside(other)] = infer([row.get(other) for row in rows])
    return pa.table(columns), unreadable


def beside(column: str) -> str:
    """Name a column of the input in a table that has columns `text` and `id` already."""
    return f"{column}_" if column in ("text", "id") else column


def with_json(row: Any, column: str) -> Any:
    """Turn a list or table in a column into JSON text."""
    value = row.get(column) if isinstance(row, dict) else None
    return row | {column: orjson.dumps(value).decode()} if isinstance(value, list | dict) else row


def plain_texts(rows: Sequence[Any], options: ReadOptions) -> pa.Array | None:
    """Return the texts of records that are all usable, as nearly all are; None if one may not be.

    Looking at each by itself took a third of the time of reading.
    """
    try:
        texts = [row[options.text_column] for row in rows]
        if not all(type(text) is str for text in texts):
            return None
        if max(map(len, texts), default=0) > options.max_doc_bytes // 4:  # characters may have four bytes
            return None
        return pa.array(texts, pa.large_string())
    except (KeyError, TypeError, UnicodeEncodeError):
        return None


def why_unusable(row: Any, options: ReadOptions) -> str:
    """Say why a record cannot be a document, or ""."""
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
    """Keep a source that the input names; else say which file it was."""
    return pa.array([value if isinstance(value, str) else name for value in values], pa.string())


def infer(values: list[Any]) -> pa.Array:
    """Return a column the narrowest Arrow type that holds all its values; mixed ones become JSON text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([as_text(value) for value in values], pa.string())


def excerpt(row: Any) -> str:
    """Return the start of an unreadable record."""
    try:
        return orjson.dumps(row).decode()[:EXCERPT_CHARACTERS]
    except (TypeError, ValueError):
        return repr(row)[:EXCERPT_CHARACTERS]


def from_table(
    table: pa.Table, first_row: int, name: str, options: ReadOptions
) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Make a table of documents from Arrow columns; rows without text are returned as unreadable.

    Raises DataError (3) if the table has no text column.
    """
    if options.text_column not in table.column_names:
        raise no_column(name, options.text_column, table.column_names)
    if twice := sorted({column for column in table.column_names if table.column_names.count(column) > 1}):
        raise DataError(f"{name} has two columns called '{twice[0]}'", "give each column a name of its own")
    table = pa.table({column: selectable(table[column]) for column in table.column_names})
    text = table[options.text_column]
    if options.structured and pa.types.is_nested(text.type):
        values = [None if value is None else orjson.dumps(value).decode() for value in text.to_pylist()]
        text = pa.chunked_array([pa.array(values, pa.large_string())])
    if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type) or pa.types.is_string_view(text.type)):
        raise DataError(
            f"{name}: column '{options.text_column}' holds {text.type}, not text", "choose another with --text-column"
        )
    text = text.cast(pa.large_string())
    too_long = pc.greater(pc.binary_length(text), options.max_doc_bytes)
    usable = pc.and_(pc.is_valid(text), pc.invert(pc.fill_null(too_long, False)))
    rows = pa.array(range(first_row, first_row + len(table)), pa.int64())
    unreadable = [
        UnreadableRecord(
            name, f"row {row}", "text is null" if length is None else f"longer than {options.max_doc_bytes} bytes"
        )
        for row, length in zip(
            rows.filter(pc.invert(usable)).to_pylist(),
            pc.binary_length(text.filter(pc.invert(usable))).to_pylist(),
            strict=True,
        )
    ]
    if unreadable:
        table, text, rows = table.filter(usable), text.filter(usable), rows.filter(usable)
    made = pc.binary_join_element_wise(pa.scalar(f"{name}:"), rows.cast(pa.string()), "")
    given = strings_of(table, options.id_column)
    if given is None and options.id_column in table.column_names:
        raise DataError(
            f"{name}: column '{options.id_column}' holds {table[options.id_column].type}, which is no id",
            "choose another with --id-column",
        )
    columns: dict[str, Any] = {"id": made if given is None else pc.coalesce(given, made), "text": text}
    source = strings_of(table, "source")
    columns["source"] = pa.nulls(len(table), pa.string()) if source is None else source
    columns["source"] = pc.coalesce(columns["source"], pa.scalar(name))
    for other in table.column_names:
        if other not in (options.text_column, options.id_column, "source"):
            columns[beside(other)] = table[other]
    return pa.table(columns), unreadable


def selectable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of which rows can be chosen: pyarrow cannot do that with string views, which polars writes."""
    if pa.types.is_primitive(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    try:
        column.slice(0, 1).take(pa.array([0] if len(column) else [], pa.int64()))
    except pa.ArrowNotImplementedError:
        return pa.chunked_array([infer(column.to_pylist())])
    return column


def strings_of(table: pa.Table, column: str) -> pa.ChunkedArray | None:
    """Return a column as text; None where there is none, or it is of a type that has no text."""
    if column not in table.column_names:
        return None
    try:
        return table[column].cast(pa.string())
    except pa.ArrowException:
        return None


def no_column(name: str, wanted: str, columns: Sequence[str]) -> DataError:
    """Say that the text column is absent, and which ones there are."""
    return DataError(
        f"{name} has no column '{wanted}'; it has: {', '.join(columns) or 'none'}", "name the text with --text-column"
    )
