"""Plain text, Markdown, source code: one document a file, UTF-8."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.files import read_all
from gptctl.io.formats import InputFile
from gptctl.io.input.records import EXCERPT_CHARACTERS, Block, ReadOptions, UnreadableRecord

SUFFIXES = (".txt", ".md", ".rst", ".text")


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """One file, one block: the planner puts small files together."""
    yield Block("txt", file.name, file.path, size=file.size)


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Read the file as one document."""
    data = read_all(block.path, options.max_doc_bytes)
    if data is None:
        return one(block.name, None), [
            UnreadableRecord(block.name, "file", f"longer than {options.max_doc_bytes} bytes")
        ]
    if not data:
        return one(block.name, None), []
    try:
        return one(block.name, data.decode("utf-8-sig")), []
    except UnicodeDecodeError as error:
        shown = data[:EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
        return one(block.name, None), [UnreadableRecord(block.name, f"byte {error.start}", "not UTF-8", shown)]


def one(name: str, text: str | None) -> pa.Table:
    """Make a table of one document, or of none."""
    rows = [] if text is None else [text]
    names = pa.array([name] * len(rows), pa.string())
    return pa.table({"id": names, "text": pa.array(rows, pa.large_string()), "source": names})
