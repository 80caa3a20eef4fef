"""Plain text, Markdown, reStructuredText and source code in UTF-8: one document per file."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.files import read_all
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.documents_from_rows import EXCERPT_CHARACTERS

SUFFIXES = (".txt", ".md", ".rst", ".text")
HAS_COLUMNS = False


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the file as one block. Small files are grouped into one task later."""
    yield Block("txt", file.name, file.path, size=file.size)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Read the file as one document."""
    data = read_all(block.path, options.max_doc_bytes)
    if data is None:
        too_long = UnreadableRecord(block.name, "file", f"longer than {options.max_doc_bytes} bytes")
        return ReadResult(one_document(block.name, None), [too_long])
    if not data:
        return ReadResult(one_document(block.name, None), [])
    try:
        return ReadResult(one_document(block.name, data.decode("utf-8-sig")), [])
    except UnicodeDecodeError as error:
        excerpt = data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
        not_utf8 = UnreadableRecord(block.name, f"byte {error.start}", "not UTF-8", excerpt)
        return ReadResult(one_document(block.name, None), [not_utf8])


def one_document(name: str, text: str | None) -> pa.Table:
    """Return a table of one document, or of none if `text` is None."""
    texts = [] if text is None else [text]
    names = pa.array([name] * len(texts), pa.string())
    return pa.table({"id": names, "text": pa.array(texts, pa.large_string()), "source": names})
