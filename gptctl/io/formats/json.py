"""JSON files: an array of records or a single record. A file of JSON lines is read too, whatever its suffix."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from gptctl.io.files import damaged, read_all
from gptctl.io.formats import InputFile, jsonl
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult
from gptctl.io.input.documents_from_rows import documents_from_rows

SUFFIXES = (".json",)
MAX_FILE_BYTES = 2**30


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the file as one block, because JSON cannot be split before it is parsed."""
    yield Block("json", file.name, file.path, size=file.size)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Parse the file as a whole, or line by line if that fails."""
    data = read_all(block.path, MAX_FILE_BYTES)
    if data is None:
        raise damaged(block.path, ValueError(f"longer than {MAX_FILE_BYTES} bytes; use JSON lines (.jsonl)"))
    try:
        value = orjson.loads(data.removeprefix(jsonl.BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        if data.lstrip()[:1] == b"{" and b"\n" in data.strip():
            return jsonl.read_block(Block("jsonl", block.name, data=data), options)
        raise damaged(block.path, error) from error
    rows = value if isinstance(value, list) else [value]
    return documents_from_rows(rows, [f"item {i}" for i in range(len(rows))], block.name, options)
