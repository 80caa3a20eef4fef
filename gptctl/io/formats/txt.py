"""Plain text, Markdown, reStructuredText and source code in any encoding: one document per file.

A document that was not read from UTF-8 has the encoding in the column `encoding`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.files import read_all
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, Encodings, ReadOptions, ReadResult, UnreadableRecord
from gptctl.io.input.documents_from_rows import EXCERPT_CHARACTERS
from gptctl.io.input.encoding import UTF8, NotTextError, decode

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
        text, name = decode(data, options.encoding)
    except NotTextError as error:
        excerpt = data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
        unreadable = UnreadableRecord(block.name, error.position, error.reason, excerpt)
        return ReadResult(one_document(block.name, None), [unreadable])
    if name == UTF8:
        return ReadResult(one_document(block.name, text), [])
    return ReadResult(one_document(block.name, text, name), [], Encodings([name]))


def one_document(name: str, text: str | None, encoding: str | None = None) -> pa.Table:
    """Return a table of one document, or of none if `text` is None. It has the column `encoding` if there is one."""
    texts = [] if text is None else [text]
    names = pa.array([name] * len(texts), pa.string())
    columns = {"id": names, "text": pa.array(texts, pa.large_string()), "source": names}
    return pa.table(columns if encoding is None else columns | {"encoding": pa.array([encoding], pa.string())})
