"""A JSON file: an array of records, one record, or in truth JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pyarrow as pa

from gptctl.io.files import damaged, read_all
from gptctl.io.formats import InputFile, jsonl
from gptctl.io.input.records import Block, ReadOptions, UnreadableRecord, from_dicts

SUFFIXES = (".json",)
MAX_FILE_BYTES = 2**30


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """A JSON document cannot be split before it is parsed."""
    yield Block("json", file.name, file.path, size=file.size)


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Parse the file as a whole, and line by line where that fails."""
    data = read_all(block.path, MAX_FILE_BYTES)
    if data is None:
        raise damaged(block.path, ValueError(f"longer than {MAX_FILE_BYTES} bytes; use JSON lines (.jsonl)"))
    try:
        value = orjson.loads(data.removeprefix(jsonl.BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        if data.lstrip()[:1] == b"{" and b"\n" in data.strip():
            return jsonl.read(Block("jsonl", block.name, data=data), options)
        raise damaged(block.path, error) from error
    rows = value if isinstance(value, list) else [value]
    return from_dicts(rows, [f"item {i}" for i in range(len(rows))], block.name, options)
