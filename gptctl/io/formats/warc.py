"""WARC web archives: one document per HTML response, with its URL in the column `url`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.dataset.stream import from_bytes, to_bytes
from gptctl.io.files import CHUNK_BYTES, damaged, open_seekable
from gptctl.io.formats import InputFile
from gptctl.io.formats.html import decode
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.documents_from_table import documents_from_table

SUFFIXES = (".warc",)
HAS_COLUMNS = False
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("url", pa.string())])


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Read the records in order and yield about `target_bytes` of them at a time."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    rows: list[dict[str, str]] = []
    unreadable: list[UnreadableRecord] = []
    size = 0
    try:
        with open_seekable(file.path, CHUNK_BYTES) as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                content_type = (record.http_content_type or "").lower()
                if "html" not in content_type and "text/plain" not in content_type:
                    continue
                data = record.reader.read(options.max_doc_bytes + 1)
                if len(data) > options.max_doc_bytes:
                    reason = f"longer than {options.max_doc_bytes} bytes"
                    unreadable.append(UnreadableRecord(file.name, f"record {record.record_id}", reason))
                    continue
                url = record.headers.get("WARC-Target-URI") or ""
                rows.append({"id": str(record.record_id), "text": decode(data), "url": url})
                size += len(data)
                if size >= target_bytes:
                    yield pack(file.name, rows, unreadable, size)
                    rows, unreadable, size = [], [], 0
    except (OSError, ValueError) as error:
        raise damaged(file.path, error) from error
    if rows or unreadable:
        yield pack(file.name, rows, unreadable, size)


def pack(name: str, rows: list[dict[str, str]], unreadable: list[UnreadableRecord], size: int) -> Block:
    """Return parsed records as one block."""
    data = to_bytes(pa.Table.from_pylist(rows, schema=SCHEMA))
    return Block("warc", name, size=size, data=data, unreadable=tuple(unreadable))


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Return the parsed records of a block as documents."""
    names = ReadOptions("text", "id", options.max_doc_bytes)
    documents, unreadable, _ = documents_from_table(from_bytes(block.data), 0, block.name, names)
    return ReadResult(documents, [*block.unreadable, *unreadable])
