"""HTML pages: one document per file, decoded by the page's own encoding or the one that resiliparse detects.

The document is the page's source. `gptctl clean` extracts the text.
"""

from __future__ import annotations

from collections.abc import Iterator

from gptctl.io.files import read_all
from gptctl.io.formats import InputFile, txt
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord

SUFFIXES = (".html", ".htm", ".xhtml")
HAS_COLUMNS = False


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the page as one block. Small files are grouped into one task later."""
    yield Block("html", file.name, file.path, size=file.size)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Read the page as one document."""
    data = read_all(block.path, options.max_doc_bytes)
    if data is None:
        too_long = UnreadableRecord(block.name, "file", f"longer than {options.max_doc_bytes} bytes")
        return ReadResult(txt.one_document(block.name, None), [too_long])
    return ReadResult(txt.one_document(block.name, decode(data) if data else None), [])


def decode(data: bytes) -> str:
    """Decode a page as UTF-8, or else in the encoding that its bytes and meta tags suggest."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        from resiliparse.parse.encoding import bytes_to_str, detect_encoding

        return str(bytes_to_str(data, detect_encoding(data) or "windows-1252", errors="replace"))
