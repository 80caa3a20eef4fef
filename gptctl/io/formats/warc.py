"""WARC web archives, also WET and WAT files: one document per record with text, with its URL in the column `url`.

Records of other types (requests, images, metadata) are counted by their type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gptctl.io.dataset.stream import from_bytes, to_bytes
from gptctl.io.files import CHUNK_BYTES, damaged, open_seekable, open_stream
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, Skipped, UnreadableRecord
from gptctl.io.input.documents_from_table import documents_from_table
from gptctl.io.input.encoding import CONTROLS
from gptctl.io.input.http_body import EncodedBodyError, decode_body
from gptctl.io.input.page_charset import decode_page

if TYPE_CHECKING:
    from fastwarc.warc import WarcRecord

SUFFIXES = (".warc", ".wet", ".wat")
HAS_COLUMNS = False
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.binary()), ("url", pa.string()), ("charset", pa.string())])
NOT_TEXT = ("text/css", "text/javascript", "text/ecmascript", "text/x-javascript", "text/x-component", "text/dns")
PAGE_STARTS = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")
CONTAINERS = ("response", "resource", "conversion", "metadata")  # the types of records that may hold a text
CRAWLER_SCHEME = "metadata:"  # of the URIs under which Wget stores its own log and settings
BINARY_STARTS = (b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"\x1f\x8b", b"RIFF", b"\0\0\0")
MAX_CONTROL_SHARE = 0.1
HEAD_BYTES = 512


@dataclass
class Batch:
    """The records that become one block."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[UnreadableRecord] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    size: int = 0

    def pack(self) -> Block:
        """Return the records as a block."""
        data = to_bytes(pa.Table.from_pylist(self.rows, schema=SCHEMA))
        skipped = tuple(sorted(self.skipped.items()))
        return Block("warc", self.name, size=self.size, data=data, unreadable=tuple(self.unreadable), skipped=skipped)

    def refuse(self, record: WarcRecord, reason: str) -> None:
        """Add a record that could not be read."""
        position = f"record {record.record_id}" if record.record_id else f"byte {record.stream_pos}"
        self.unreadable.append(UnreadableRecord(self.name, position, reason))

    def add(self, record: WarcRecord, options: ReadOptions) -> None:
        """Add a record as a document, or count why it is none."""
        if "Content-Length" not in record.headers:
            self.refuse(record, "the file ends in the header of a record")
            return
        kind = type_of(record)
        size = record.content_length
        is_document = has_text(record, kind)
        body = record.reader.read(options.max_doc_bytes + 1) if is_document else b""
        consumed = len(body) + (record.reader.consume() if len(body) < size else 0)
        if consumed < size:
            self.refuse(record, f"the file ends after {consumed:,} of {size:,} bytes of a record")
        elif not is_document:
            self.skipped[name_of(record, kind)] += 1
        else:
            self.add_body(record, kind, body, options)

    def add_body(self, record: WarcRecord, kind: str, body: bytes, options: ReadOptions) -> None:
        """Add a complete body, which may be encoded, too long or no text after all."""
        if record.is_http and len(body) <= options.max_doc_bytes:
            headers = record.http_headers
            transfer, content = (headers.get_multiple(f"{name}-Encoding") for name in ("Transfer", "Content"))
            try:
                body = decode_body(body, transfer, content, options.max_doc_bytes)
            except EncodedBodyError as error:
                self.refuse(record, f"body {error}")
                return
        if len(body) > options.max_doc_bytes:
            self.refuse(record, f"longer than {options.max_doc_bytes} bytes")
        elif not kind and not body.lstrip().lower().startswith(PAGE_STARTS):
            self.skipped["no type"] += 1
        elif is_binary(body):
            self.skipped[f"binary called {kind or 'nothing'}"] += 1
        else:
            url = (record.headers.get("WARC-Target-URI") or "").strip("<>")
            row = {"id": str(record.record_id), "text": body, "url": url, "charset": charset_of(record) or ""}
            self.rows.append(row)
            self.size += len(body)


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Read the records in order and yield about `target_bytes` of them at a time."""
    from fastwarc.warc import ArchiveIterator

    batch = Batch(file.name)
    try:
        with open_stream(file.path) if file.compressed else open_seekable(file.path, CHUNK_BYTES) as stream:
            source: Any = Positioned(stream)
            for record in ArchiveIterator(source):
                batch.add(record, options)
                if batch.size >= target_bytes:
                    yield batch.pack()
                    batch = Batch(file.name)
    except (OSError, ValueError) as error:
        raise damaged(file.path, error) from error
    if batch.rows or batch.unreadable or batch.skipped:
        yield batch.pack()


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Decode the text of the records of a block."""
    table = from_bytes(block.data)
    bodies, charsets = table["text"].to_pylist(), table["charset"].to_pylist()
    texts = [decode_page(body, charset) for body, charset in zip(bodies, charsets, strict=True)]
    table = table.set_column(1, "text", pa.array(texts, pa.large_string())).drop_columns(["charset"])
    names = ReadOptions("text", "id", 4 * options.max_doc_bytes)  # UTF-8 may need more bytes than the body had
    documents, unreadable, *_ = documents_from_table(table, 0, block.name, names)
    return ReadResult(documents, [*block.unreadable, *unreadable], skipped=Skipped(dict(block.skipped)))


class Positioned:
    """Reads a stream and counts its bytes, since fastwarc asks for the position and pipes have none."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes."""
        data: bytes = self.stream.read(size)
        self.position += len(data)
        return data

    def tell(self) -> int:
        """Return the number of bytes that were read."""
        return self.position


def type_of(record: WarcRecord) -> str:
    """Return the media type of what a record holds, without parameters, or ""."""
    value = record.http_content_type if record.is_http else record.headers.get("Content-Type")
    return (value or "").partition(";")[0].strip().lower()


def charset_of(record: WarcRecord) -> str | None:
    """Return the encoding that HTTP or the record itself declares."""
    value = (record.http_headers if record.is_http else record.headers).get("Content-Type") or ""
    return next(
        (part.partition("=")[2] for part in value.split(";")[1:] if part.strip().lower().startswith("charset")), ""
    )


def has_text(record: WarcRecord, kind: str) -> bool:
    """Return whether a record may hold a text for reading. A response without a type may."""
    if name_of_type(record) not in CONTAINERS or (record.headers.get("WARC-Target-URI") or "").startswith(
        CRAWLER_SCHEME
    ):
        return False
    if not kind:
        return record.is_http
    return (kind.startswith("text/") and kind not in NOT_TEXT) or kind == "application/xhtml+xml"


def name_of_type(record: WarcRecord) -> str:
    """Return the type of a record as WARC names it."""
    return (record.headers.get("WARC-Type") or "unknown").strip().lower()


def name_of(record: WarcRecord, kind: str) -> str:
    """Return what a record without text is counted as: the type of a response's body, else the type of the record."""
    name = name_of_type(record)
    if name == "response" and record.is_http:
        return kind or "no type"
    return f"{name} {kind}" if name in CONTAINERS and kind else name


def is_binary(body: bytes) -> bool:
    """Return whether a body that is called text is an image, a PDF file or other data."""
    head = body[:HEAD_BYTES]
    odd = len(head) - len(head.translate(None, CONTROLS))
    has_wide_text = body.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"<\0" in head or b"\0<" in head)
    return head.startswith(BINARY_STARTS) or (odd > MAX_CONTROL_SHARE * len(head) and not has_wide_text)
