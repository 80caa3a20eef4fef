"""Input formats. A file in this folder is one of them; it defines what `InputFormat` lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast

from gptctl.core import plugins
from gptctl.io.files import split_suffixes
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, UnreadableRecord


@dataclass(frozen=True)
class InputFile:
    """A file to read. `name` is its path below the INPUT argument that names it.

    `problem` says why it cannot be opened, if it was found beside others.
    """

    path: str
    name: str
    size: int
    problem: str = ""

    def as_unreadable(self) -> UnreadableRecord:
        """Return the file as an unreadable record."""
        return UnreadableRecord(self.name, "file", self.problem)

    @property
    def compressed(self) -> bool:
        """Return whether the name ends in .gz, .zst, .bz2 or .lz4."""
        return split_suffixes(self.path)[1] is not None


class InputFormat(Protocol):
    """What an input format's file must define.

    A format whose records have no columns that the user could name also defines `HAS_COLUMNS = False`.
    """

    SUFFIXES: tuple[str, ...]

    def split_file(self, file: InputFile, target_bytes: int, options: ReadOptions) -> Iterator[Block]:
        """Yield the blocks of a file in order, each of about `target_bytes`.

        This runs in the parent process, so it should be cheap: ranges of the file if the format allows them.
        """

    def read_block(self, block: Block, options: ReadOptions) -> ReadResult:
        """Return a block's documents and the records that could not be read. This runs in a worker."""


CONTRACT = InputFormat


def load(name: str) -> InputFormat:
    """Return the input format of this name. Raises UsageError (2) if there is none."""
    return cast(InputFormat, plugins.load(__name__, name))


def for_path(path: str) -> InputFormat:
    """Return the format that the path's suffix names. A file with any other suffix is plain text, one document."""
    return load(format_name(split_suffixes(path)[0]))


def has_columns(path: str) -> bool:
    """Return whether the records of a file have columns that the user can name."""
    return bool(getattr(for_path(path), "HAS_COLUMNS", True))


@cache
def format_name(suffix: str) -> str:
    """Return the name of the format that has this suffix. It is cached, as a folder may hold 100,000 files."""
    known = (*plugins.built_in(__name__), *plugins.file_names(__name__), *plugins.installed(__name__))
    return next((name for name in known if suffix in load(name).SUFFIXES), "txt")
