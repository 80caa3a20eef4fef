"""JSON lines: one record per line. Plain files are split at byte ranges, compressed ones as they are decompressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gptctl.io.files import damaged, open_seekable, open_stream
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.bounded_lines import line_groups
from gptctl.io.input.documents_from_rows import EXCERPT_CHARACTERS
from gptctl.io.input.json_values import documents_from_json

SUFFIXES = (".jsonl", ".ndjson", ".jl")
# Bytes beyond the block that a request to object storage fetches too, for the block's last line.
LOOKAHEAD_BYTES = 2**17
SCAN_BYTES = 2**16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield byte ranges of a plain file. A worker reads the lines that begin in its range."""
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


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Parse the lines of a block. A line that is not a JSON object with a text is an unreadable record."""
    offset, data = (block.start, block.data) if block.data else lines_of_range(block, options.max_doc_bytes)
    rows: list[Any] = []
    lines: list[bytes] = []
    positions: list[str] = []
    unreadable: list[UnreadableRecord] = []
    for line in data.split(b"\n"):
        start, offset = offset, offset + len(line) + 1
        line = line.removeprefix(BYTE_ORDER_MARK)  # also inside a file that was joined from several
        reason = f"longer than {options.max_doc_bytes} bytes" if len(line) > options.max_doc_bytes else ""
        if not reason:
            if not line.strip():
                continue
            try:
                rows.append(orjson.loads(line))
                lines.append(line)
                positions.append(f"byte {start}")
                continue
            except orjson.JSONDecodeError as error:
                reason = reason_of(line, error)
        excerpt = line[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
        unreadable.append(UnreadableRecord(block.name, f"byte {start}", reason, excerpt))
    documents, unusable, *_ = documents_from_json(rows, lines, positions, block.name, options)
    return ReadResult(documents, unreadable + unusable)


def reason_of(line: bytes, error: Exception) -> str:
    """Return whether the encoding or the JSON of a line is invalid."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return f"not JSON: {str(error).split(':')[0]}"


def lines_of_range(block: Block, max_line_bytes: int) -> tuple[int, bytes]:
    """Return the offset and the bytes of the lines that begin in the block's range. A last line too long is cut."""
    with open_seekable(block.path, block.stop - block.start + LOOKAHEAD_BYTES) as file:
        first = block.start
        if first:
            file.seek(first - 1)
            while chunk := file.read(min(SCAN_BYTES, block.stop - first + 1)):
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
            chunk = file.read(SCAN_BYTES)
            if not chunk:
                break
            newline = chunk.find(b"\n")
            data += chunk if newline < 0 else chunk[: newline + 1]
    return first, bytes(data)
