"""One input format per file.

A format has SUFFIXES, `cut` and `read`. `cut(file, target_bytes, options)` yields the blocks of a file in order, in the
parent process: cheap ranges where the format allows it. `read(block, options)` gives the block's documents and what in
it could not be read, in a worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType

from gptctl.core import plugins
from gptctl.io.files import split_suffixes


@dataclass(frozen=True)
class InputFile:
    """One file to read. `name` is its path below the INPUT argument that named it."""

    path: str
    name: str
    size: int

    @property
    def compressed(self) -> bool:
        """Return whether the name ends in .gz, .zst, .bz2 or .lz4."""
        return split_suffixes(self.path)[1] is not None


def for_path(path: str) -> ModuleType:
    """Return the format whose suffix the path has; any other file is plain text, one document."""
    return for_suffix(split_suffixes(path)[0])


@cache
def for_suffix(suffix: str) -> ModuleType:
    """Look a suffix up; a folder may hold a hundred thousand files."""
    for name in (*plugins.built_in(__name__), *plugins.file_names(__name__), *plugins.installed(__name__)):
        module = plugins.load(__name__, name)
        if suffix in module.SUFFIXES:
            return module
    return plugins.load(__name__, "txt")
