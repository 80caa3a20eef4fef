"""JSON files: an array of records, a single record, or records one after the other, with or without line ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gptctl.io.files import damaged, read_all
from gptctl.io.formats import InputFile, jsonl
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.documents_from_rows import EXCERPT_CHARACTERS, documents_from_rows
from gptctl.io.input.json_values import NotJsonError, documents_from_json, has_large_floats, split_values

SUFFIXES = (".json",)
MAX_FILE_BYTES = 2**30


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the file as one block, because JSON cannot be split before it is parsed."""
    yield Block("json", file.name, file.path, size=file.size)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Parse the file as a whole. If that fails, parse each record by itself, or else each line."""
    data = read_all(block.path, MAX_FILE_BYTES)
    if data is None:
        raise damaged(block.path, ValueError(f"longer than {MAX_FILE_BYTES} bytes; use JSON lines (.jsonl)"))
    data = data.removeprefix(jsonl.BYTE_ORDER_MARK)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            return read_each(data, block, options)
        except NotJsonError:
            if data.lstrip()[:1] == b"{" and b"\n" in data.strip():
                return jsonl.read_block(Block("jsonl", block.name, data=data), options)
        raise damaged(block.path, error) from error
    rows = value if isinstance(value, list) else [value]
    found = documents_from_rows(rows, [f"item {i}" for i in range(len(rows))], block.name, options)
    return read_each(data, block, options) if has_large_floats(found.documents) or has_odd_ids(rows, options) else found


def has_odd_ids(rows: list[Any], options: ReadOptions) -> bool:
    """Return whether an id is no text and no integer."""
    return any(isinstance(row, dict) and isinstance(row.get(options.id_column), float | dict | list) for row in rows)


def read_each(data: bytes, block: Block, options: ReadOptions) -> ReadResult:
    """Parse each record by itself. Raises NotJsonError if the end of one cannot be found."""
    text = data.decode("utf-8", "surrogateescape")
    is_array = text.lstrip()[:1] == "["
    rows: list[Any] = []
    sources: list[bytes] = []
    positions: list[str] = []
    unreadable: list[UnreadableRecord] = []
    offset = done = 0
    for number, (start, stop) in enumerate(split_values(text)):
        source = text[start:stop].encode("utf-8", "surrogateescape")
        offset += len(text[done:start].encode("utf-8", "surrogateescape"))
        position = f"item {number}" if is_array else f"byte {offset}"
        offset, done = offset + len(source), stop
        try:
            rows.append(orjson.loads(source))
            sources.append(source)
            positions.append(position)
        except orjson.JSONDecodeError as error:
            excerpt = source[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
            unreadable.append(UnreadableRecord(block.name, position, jsonl.reason_of(source, error), excerpt))
    documents, unusable, *_ = documents_from_json(rows, sources, positions, block.name, options)
    return ReadResult(documents, unreadable + unusable)
