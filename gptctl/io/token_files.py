"""Files of token ids as nanoGPT (Karpathy 2022), llm.c and modded-nanogpt hold them: train.bin, val.bin.

nanoGPT's are ids of 16 bits and nothing else. llm.c's begin with a header of 256 32-bit integers: a magic number, which
says how wide ids are, a version, and the number of tokens. All are little-endian. A document ends with end-of-text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.errors import DataError, UsageError
from gptctl.io.dataset.manifest import SPLIT_NAMES
from gptctl.io.files import open_seekable, plain_path
from gptctl.io.formats import InputFile
from gptctl.io.hub.uri import is_hub
from gptctl.io.input.blocks import Block, ReadOptions, ReadResult, ShardTask
from gptctl.io.input.find import find_files
from gptctl.io.input.inputs import Inputs
from gptctl.io.object_storage.address import file_info, list_folder
from gptctl.io.recognize import is_pickle

SUFFIX = ".bin"
HEADER = 256  # 32-bit integers
HEADER_BYTES = 4 * HEADER
WIDTHS = {20240520: 2, 20240801: 4}  # bytes of an id, by llm.c's magic numbers
QUESTIONS = 20240522
VERSIONS = {20240520: 1, 20240801: 7}
TASK_TOKENS = 4 * 2**20
TOKENIZERS = ("tokenizer.json", "vocab.json")


def split_of(name: str) -> str:
    """Return the split that a file's name contains, such as "val" of fineweb_val_000000.bin, or ""."""
    words = re.split("[^a-z]+", PurePosixPath(name).name.lower().removesuffix(SUFFIX))
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def find(arguments: Sequence[str]) -> list[InputFile]:
    """Return the token files that INPUT names, or nothing if it names documents. A folder has those named by a split.

    Raises UsageError (2) if it names both.
    """
    found = {argument: files_of(argument) for argument in arguments}
    if others := [argument for argument, files in found.items() if not files]:
        if len(others) < len(found):
            first = next(argument for argument, files in found.items() if files)
            what = f"{first} is token ids and {others[0]} is not, so they cannot be one input"
            raise UsageError(what, "tokenize each into its own folder; pretrain mixes several")
        return []
    return [file for files in found.values() for file in files]


def files_of(argument: str) -> list[InputFile]:
    """Return the token files that one argument names: a file, a glob, or a folder with train.bin or the like."""
    path = plain_path(argument)
    if argument == "-" or is_hub(argument):
        return []
    if not path.endswith(SUFFIX):
        return [
            InputFile(place, name, file_info(place).size or 0)
            for name, place in list_folder(path).items()
            if name.endswith(SUFFIX) and split_of(name)
        ]
    if "*" not in path and not file_info(path).is_file:
        return []
    return [file for file in find_files(path) if file.path.endswith(SUFFIX) and not is_pickle(file.path)]


def tokenizer_beside(files: Sequence[InputFile]) -> str:
    """Return the tokenizer in the folder of token files. Raises UsageError (2) if there is none."""
    folder = files[0].path.rpartition("/")[0] or "."
    present = list_folder(folder)
    for name in TOKENIZERS:
        if name in present:
            return present[name]
    raise UsageError(
        f"{files[0].path} holds token ids, and nothing beside it says which tokenizer they are of",
        "name it with --tokenizer; nanoGPT and llm.c use GPT-2's: a folder with its vocab.json and merges.txt",
    )


@dataclass(frozen=True)
class TokenFile:
    """A file whose size was checked: where its ids begin, how many there are, and of how many bytes each."""

    file: InputFile
    first_byte: int
    count: int
    width: int

    @classmethod
    def open(cls, file: InputFile, width: int) -> TokenFile:
        """Read the header. `width` is that of ids without a header. Raises DataError (3) for a file that is damaged."""
        with open_seekable(file.path) as source:
            head = bytes(source.read(HEADER_BYTES))
        integers = np.frombuffer(head[: len(head) // 4 * 4], "<i4")
        magic = int(integers[0]) if len(integers) == HEADER else 0
        if magic == QUESTIONS:
            raise DataError(f"{file.path} holds multiple-choice questions of llm.c, not text", "leave it out")
        if magic not in WIDTHS:
            return cls(file, 0, whole_ids(file, file.size, width), width)
        if integers[1] != VERSIONS[magic]:
            what = f"{file.path} has version {integers[1]} of llm.c's format, and version {VERSIONS[magic]} is known"
            raise DataError(what, "write it again with llm.c's own scripts")
        count, width = int(integers[2]), WIDTHS[magic]
        found = whole_ids(file, file.size - HEADER_BYTES, width)
        if found != count:
            what = f"{file.path} has {found:,} ids, and its header says {count:,}"
            raise DataError(what, "the file was cut or joined; copy it again")
        return cls(file, HEADER_BYTES, count, width)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the ids from `start` to `stop`, uint16 or uint32."""
        with open_seekable(self.file.path) as source:
            source.seek(self.first_byte + start * self.width)
            data = source.read((min(stop, self.count) - start) * self.width)
        return np.frombuffer(data, f"<u{self.width}")

    def border(self, start: int, end_of_text: int) -> int:
        """Return where the first document begins at or after `start`, or `start` itself in a very long document."""
        if start == 0 or start >= self.count:
            return min(start, self.count)
        ends = np.flatnonzero(self.read(start - 1, start - 1 + TASK_TOKENS) == end_of_text)
        return start + int(ends[0]) if len(ends) else start


def whole_ids(file: InputFile, size: int, width: int) -> int:
    """Return how many ids a number of bytes holds. Raises DataError (3) if there are none, or a part of one."""
    if not size:
        raise DataError(f"{file.path} holds no tokens", "make it again, or leave it out")
    if size % width:
        what = f"{file.path} has {size:,} bytes of ids, which is no multiple of {width}"
        raise DataError(what, "the file was cut, or holds no token ids")
    return size // width


class TokenFiles(Inputs):
    """Token files as the input of `tokenize`: each is of one split, and is cut into tasks of about 4 million tokens."""

    def __init__(self, files: Sequence[InputFile], options: ReadOptions, width: int) -> None:
        """Open the files, whose ids have `width` bytes if there is no header. Raises DataError (3) for damaged ones."""
        super().__init__((), options)
        for file in files:
            self._add_file(file)
        self.opened = [TokenFile.open(file, width) for file in self.files]
        self.width = width

    @property
    def is_divided(self) -> bool:
        """Return True: names say which split a file is of."""
        return True

    def undivided(self) -> list[str]:
        """Return the files whose names say nothing about splits. They are read as train."""
        return [file.name for file in self.files if not split_of(file.name)]

    def expected_tasks(self, limit: int = 0) -> int | None:
        """Return the number of tasks."""
        return sum(-(-opened.count // TASK_TOKENS) for opened in self.opened)

    def tasks(self, limit: int = 0) -> Iterator[ShardTask]:
        """Yield the tasks. Their bounds are numbers of tokens."""
        index = 0
        for opened in self.opened:
            file = opened.file
            for start in range(0, opened.count, TASK_TOKENS):
                stop = min(start + TASK_TOKENS, opened.count)
                size, split = (stop - start) * opened.width, split_of(file.name) or "train"
                block = Block("token ids", file.name, file.path, start, stop, size=size, split=split)
                yield ShardTask(index, (block,))
                index += 1


@dataclass(frozen=True)
class TokenReader:
    """Reads the documents of a task, in a worker: those that begin within its bounds."""

    width: int
    end_of_text: int

    def __call__(self, task: ShardTask, options: ReadOptions) -> ReadResult:
        """Return a table of `doc_id`, named by file and token, and `tokens`. The last may lack end-of-text."""
        block = task.blocks[0]
        file = InputFile(block.path, block.name, file_info(block.path).size or 0)
        opened = TokenFile.open(file, self.width)
        first, last = (opened.border(place, self.end_of_text) for place in (block.start, block.stop))
        ids = opened.read(first, last)
        ends = np.flatnonzero(ids == self.end_of_text) + 1
        offsets = np.unique(np.concatenate([np.zeros(1, np.int64), ends, np.full(1, len(ids), np.int64)]))
        rows = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids))
        names = pa.array([f"{block.name}:{first + offset}" for offset in offsets[:-1].tolist()], pa.string())
        return ReadResult(pa.table({"doc_id": names, "tokens": rows}), [])
