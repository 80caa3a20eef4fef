"""Archives of files, which are not unpacked: a member could name any place of this machine, or be larger than its disk.

Read as text, as any unknown suffix is, an archive of texts would be one document of all of them, headers included.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.formats import InputFile, txt
from gptctl.io.input.records import Block, ReadOptions, UnreadableRecord

SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".zip", ".7z", ".rar")


def cut(file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
    """One archive, one block, whose content nobody looks at."""
    yield Block("archive", file.name, file.path, size=file.size)


def read(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Return no document, and the archive as what could not be read."""
    return txt.one(block.name, None), [UnreadableRecord(block.name, "file", "an archive: unpack it first")]
