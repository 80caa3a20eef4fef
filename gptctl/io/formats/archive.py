"""Refuse archives (tar, zip and others) as unreadable: a member could name any path, or fill the disk.

Without this file they would be read as plain text, like any unknown suffix, and become one document with their headers.
"""

from __future__ import annotations

from collections.abc import Iterator

from gptctl.io.formats import InputFile, txt
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord

SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".zip", ".7z", ".rar")


def split_file(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """Yield the archive as one block."""
    yield Block("archive", file.name, file.path, size=file.size)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Return no document, and the archive as an unreadable record."""
    return ReadResult(
        txt.one_document(block.name, None), [UnreadableRecord(block.name, "file", "an archive: unpack it first")]
    )
