"""HTML pages: one document a file, in whatever encoding the page says or resiliparse detects.

The text is the page's source: `gptctl clean` turns it into text.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.files import read_all
from gptctl.io.formats import InputFile, txt
from gptctl.io.input.records import Block, ReadOptions, UnreadableRecord

SUFFIXES = (".html", ".htm", ".xhtml")


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """One page, one block: the planner puts small files together."""
    yield Block("html", file.name, file.path, size=file.size)


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Read the page as one document."""
    data = read_all(block.path, options.max_doc_bytes)
    if data is None:
        return txt.one(block.name, None), [
            UnreadableRecord(block.name, "file", f"longer than {options.max_doc_bytes} bytes")
        ]
    return txt.one(block.name, decode(data) if data else None), []


def decode(data: bytes) -> str:
    """Decode a page: UTF-8 if it is, else the encoding that its bytes and meta tags suggest."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        from resiliparse.parse.encoding import bytes_to_str, detect_encoding

        return str(bytes_to_str(data, detect_encoding(data) or "windows-1252", errors="replace"))
