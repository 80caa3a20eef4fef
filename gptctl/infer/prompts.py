"""The prompts of `generate` as shard tasks of a fixed number of prompts: from one text, lines, or any input format."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO

import orjson
import pyarrow as pa
import xxhash

from gptctl.core.errors import DataError, UsageError
from gptctl.io.dataset import stream
from gptctl.io.files import content_hash
from gptctl.io.input.blocks import Block, Encodings, ReadOptions, ReadResult, ShardTask, Skipped
from gptctl.io.input.documents_from_rows import documents_from_rows
from gptctl.io.input.encoding import UTF8, NotTextError, Utf8Reader
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task

LINE_SUFFIXES = (".txt", ".text", "")  # files with a prompt on each line
ARROW_MAGIC = b"\xff\xff\xff\xff"  # the first bytes of an Arrow IPC stream


class Prompts(Inputs):
    """The input of `generate`. The note of a task is the number of prompts before it."""

    def __init__(self, source: str | None, prompt: str | Sequence[str], options: ReadOptions, size: int) -> None:
        """Take prompts, or a source: a file with a prompt on each line, any input format, or - for standard input.

        `size` is the number of prompts of a task. Raises UsageError (2) for a missing path.
        """
        self.size = size
        self.prompt = prompt if source is None else None
        self.lines: Path | IO[bytes] | None = None
        self.name = source or "prompt"
        if source == "-":
            if sys.stdin.isatty():
                raise UsageError("--prompts is '-' but standard input is a terminal", "pipe prompts into it")
            standard = sys.stdin.buffer
            head = standard.peek(len(ARROW_MAGIC)) if isinstance(standard, io.BufferedReader) else b""
            self.lines = None if head.startswith(ARROW_MAGIC) else standard
        elif source is not None and Path(source).suffix in LINE_SUFFIXES and Path(source).is_file():
            self.lines, self.name = Path(source), Path(source).name
        super().__init__(() if source is None or self.lines else (source,), options)
        self.is_stream = source == "-"

    def fingerprints(self, read_remote: bool = False) -> dict[str, str] | None:
        """Return the fingerprint of the prompts, or None for standard input."""
        if self.prompt is not None:
            content = self.prompt.encode() if isinstance(self.prompt, str) else orjson.dumps(self.prompt)
            return {"prompt": xxhash.xxh3_128_hexdigest(content)}
        if isinstance(self.lines, Path):
            return {self.name: content_hash(str(self.lines))}
        return super().fingerprints(read_remote)

    def count(self, limit: int = 0, required: bool = False) -> int:
        """Read all prompts and return how many there are.

        Raises DataError (3) if there is no record at all, or with `required` none that can be read.
        """
        found = [(len(part.documents), len(part.unreadable)) for part in self.tables(limit)]
        count = sum(readable for readable, _ in found)
        if not count and (required or not any(bad for _, bad in found)):
            raise self.without_any()
        return count

    def expected_tasks(self, limit: int = 0) -> int | None:
        """Return None: generation reports its samples, not its tasks."""
        return None

    def without_any(self) -> DataError:
        """Return the error for an input without a prompt."""
        hint = "write one prompt per line, or name the column of the prompts with --text-column"
        return DataError(f"{self.name} contains no prompt", hint)

    def tasks(self, limit: int = 0) -> Iterator[ShardTask]:
        """Yield tasks of `size` prompts. The last one of each table may have fewer."""
        first = index = 0
        for found in self.tables(limit):
            table, bad, encodings, skipped = found
            for start in range(0, max(len(table), 1), self.size):
                part = table.slice(start, self.size)
                block = Block(
                    "documents", self.name, size=part.nbytes, data=stream.to_bytes(part), unreadable=tuple(bad),
                    encodings=tuple(encodings.items()), skipped=tuple(skipped.items()),
                )  # fmt: skip
                yield ShardTask(index, (block,), str(first).encode())
                bad, encodings, skipped, first, index = [], Encodings(), Skipped(), first + len(part), index + 1

    def tables(self, limit: int) -> Iterator[ReadResult]:
        """Yield tables of prompts in the order of the input, and the records that could not be read."""
        if isinstance(self.prompt, str):
            yield ReadResult(pa.table({"id": ["prompt"], "text": pa.array([self.prompt], pa.large_string())}), [])
        elif self.prompt is not None:
            texts = self.prompt[: limit or None]
            ids = pa.array([f"prompt:{number}" for number in range(len(texts))], pa.string())
            yield ReadResult(pa.table({"id": ids, "text": pa.array(texts, pa.large_string())}), [])
        elif isinstance(self.lines, Path):
            with self.lines.open("rb") as file:
                reader = Utf8Reader(file, self.options.encoding)
                for found in self.line_tables(reader.lines(), limit):
                    counted = {} if reader.encoding == UTF8 else {reader.encoding: len(found.documents)}
                    yield found._replace(encodings=Encodings(counted))
        elif self.lines is not None:
            yield from self.line_tables(self.lines, limit)
        else:
            for task in super().tasks(limit):
                yield read_task(task, self.options)

    def line_tables(self, file: Iterable[bytes], limit: int) -> Iterator[ReadResult]:
        """Yield a table for each `size` lines. All lines are JSON if the first one is an object.

        Raises DataError (3) for bytes that are not UTF-8, and for a binary file.
        """
        numbered = self.read_lines(file)
        if limit:
            numbered = islice(numbered, limit)
        as_json: bool | None = None
        while part := list(islice(numbered, self.size)):
            if as_json is None:
                as_json = bool(parse_object(part[0][1]))
            if as_json:
                rows = [parse_object(line) for _, line in part]
                yield documents_from_rows(rows, [f"line {number}" for number, _ in part], self.name, self.options)
            else:
                ids = [f"{self.name}:{number}" for number, _ in part]
                lines = pa.array([line for _, line in part], pa.large_string())
                yield ReadResult(pa.table({"id": ids, "text": lines}), [])

    def read_lines(self, file: Iterable[bytes]) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not empty, with their numbers. Standard input is hashed as it is read."""
        done = 0
        for number, data in enumerate(self.text_of(file)):
            if self.is_stream:
                self._stream_hash.update(data)
            try:
                line = data.decode("utf-8-sig" if number == 0 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{self.name} is not UTF-8 at byte {done + error.start}", "save it as UTF-8") from error
            done += len(data)
            if line:
                yield number, line

    def text_of(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines of a file. Raises DataError (3) if it is binary."""
        try:
            yield from file
        except NotTextError as error:
            raise DataError(f"{self.name} is {error.reason}", "name its encoding with --set encoding=NAME") from error


def parse_object(line: str) -> dict[str, object]:
    """Return the JSON object of a line; an empty one if the line is something else."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def options_for(options: ReadOptions, chat: bool) -> ReadOptions:
    """Return reading options in which the text may be a list of messages, if `chat` is set."""
    return replace(options, structured=chat)
