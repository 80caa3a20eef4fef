"""WARC web archives: one document per HTML response, its URL in the column `url`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.dataset.stream import from_bytes, to_bytes
from gptctl.io.files import CHUNK_BYTES, damaged, open_seekable
from gptctl.io.formats import InputFile
from gptctl.io.formats.html import decode
from gptctl.io.input.records import Block, ReadOptions, UnreadableRecord, from_table

SUFFIXES = (".warc",)


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Read records in order and hand out tables of about `target_bytes`."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    rows: list[dict[str, str]] = []
    wrong: list[UnreadableRecord] = []
    size = 0
    try:
        with open_seekable(file.path, CHUNK_BYTES) as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                kind = (record.http_content_type or "").lower()
                if "html" not in kind and "text/plain" not in kind:
                    continue
                data = record.reader.read(options.max_doc_bytes + 1)
                url = record.headers.get("WARC-Target-URI") or ""
                if len(data) > options.max_doc_bytes:
                    wrong.append(
                        UnreadableRecord(
                            file.name, f"record {record.record_id}", f"longer than {options.max_doc_bytes} bytes"
                        )
                    )
                    continue
                rows.append({"id": str(record.record_id), "text": decode(data), "url": url})
                size += len(data)
                if size >= target_bytes:
                    yield block(file.name, rows, wrong, size)
                    rows, wrong, size = [], [], 0
    except (OSError, ValueError) as error:
        raise damaged(file.path, error) from error
    if rows or wrong:
        yield block(file.name, rows, wrong, size)


def block(name: str, rows: list[dict[str, str]], wrong: list[UnreadableRecord], size: int) -> Block:
    """Pack parsed records."""
    schema = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("url", pa.string())])
    return Block(
        "warc", name, size=size, data=to_bytes(pa.Table.from_pylist(rows, schema=schema)), unreadable=tuple(wrong)
    )


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Unpack parsed records."""
    names = ReadOptions("text", "id", options.max_doc_bytes)
    documents, unreadable = from_table(from_bytes(block.data), 0, block.name, names)
    return documents, [*block.unreadable, *unreadable]
