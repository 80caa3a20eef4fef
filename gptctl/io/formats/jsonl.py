"""JSON lines: one record a line. Large files are split at byte ranges, compressed ones as they are unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa

from gptctl.io.files import damaged, open_seekable, open_stream
from gptctl.io.formats import InputFile
from gptctl.io.input.bounded_lines import line_groups
from gptctl.io.input.records import EXCERPT_CHARACTERS, Block, ReadOptions, UnreadableRecord, from_dicts

SUFFIXES = (".jsonl", ".ndjson", ".jl")
# What object storage gives beyond a block with the same request, for the line that the block ends in.
WINDOW_BYTES = 2**17
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield byte ranges of a plain file; a worker takes the lines that begin in its range."""
    if not file.compressed:
        for start in range(0, file.size, target_bytes):
            stop = min(start + target_bytes, file.size)
            yield Block("jsonl", file.name, file.path, start, stop, size=stop - start)
        return
    try:
        with open_stream(file.path) as stream:
            for offset, data in line_groups(stream, target_bytes, options.max_doc_bytes):
                yield Block("jsonl", file.name, start=offset, size=len(data), data=data)
    except OSError as error:
        raise damaged(file.path, error) from error


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Parse the lines of a block; a line that is not a JSON object with text is returned as unreadable."""
    offset, data = (block.start, block.data) if block.data else lines_of_range(block, options.max_doc_bytes)
    rows: list[Any] = []
    positions: list[str] = []
    unreadable: list[UnreadableRecord] = []
    for line in data.split(b"\n"):
        start, offset = offset, offset + len(line) + 1
        if start == 0:
            line = line.removeprefix(BYTE_ORDER_MARK)
        reason = f"longer than {options.max_doc_bytes} bytes" if len(line) > options.max_doc_bytes else ""
        if not reason:
            if not line.strip():
                continue
            try:
                rows.append(orjson.loads(line))
                positions.append(f"byte {start}")
                continue
            except orjson.JSONDecodeError as error:
                reason = reason_of(line, error)
        unreadable.append(
            UnreadableRecord(
                block.name, f"byte {start}", reason, line[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
            )
        )
    table, unusable = from_dicts(rows, positions, block.name, options)
    return table, unreadable + unusable


def reason_of(line: bytes, error: Exception) -> str:
    """Return whether it is the encoding or the JSON that is broken."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return f"not JSON: {str(error).split(':')[0]}"


def lines_of_range(block: Block, max_line_bytes: int) -> tuple[int, bytes]:
    """Return (offset, the whole lines that begin in the block's range); an overlong last line is cut."""
    with open_seekable(block.path, block.stop - block.start + WINDOW_BYTES) as file:
        first = block.start
        if first:
            file.seek(first - 1)
            while chunk := file.read(min(2**16, block.stop - first + 1)):
                newline = chunk.find(b"\n")
                if newline >= 0:
                    first = file.tell() - len(chunk) + newline + 1
                    break
                if file.tell() >= block.stop:
                    return block.stop, b""
            if first >= block.stop:
                return block.stop, b""
        file.seek(first)
        data = bytearray(file.read(block.stop - first))
        last_start = data.rfind(b"\n") + 1
        while not data.endswith(b"\n") and len(data) - last_start <= max_line_bytes:
            chunk = file.read(2**16)
            if not chunk:
                break
            newline = chunk.find(b"\n")
            data += chunk if newline < 0 else chunk[: newline + 1]
    return first, bytes(data)
