"""HTML pages: one document per file, in the encoding that the page declares, or else in one that is detected.

The document is the page's source. `gptctl clean` extracts the text.
"""

from __future__ import annotations

from collections.abc import Iterator

from gptctl.io.files import read_all
from gptctl.io.formats import InputFile, txt
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.page_charset import decode_page

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
    return ReadResult(txt.one_document(block.name, decode_page(data) if data else None), [])
