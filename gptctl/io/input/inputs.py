"""From INPUT arguments to shard tasks, by a rule that depends on the input alone.

INPUT is a file, a folder (all its files, sorted by path, except hidden ones), a glob, a URI of pyarrow.fs, a dataset
folder of an earlier stage, or "-" for a stream on standard input. A dataset folder and a stream of gptctl give one
task per shard. Other files are cut into blocks of about 1 MiB, and blocks are grouped into tasks of about a 64th of the
whole input (1 to 8 MiB). A task is large enough to be worth a process, and small enough to keep many processes busy.
Its size is bounded, so memory does not grow with the input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import xxhash

from gptctl.core import atomic
from gptctl.core.errors import UsageError
from gptctl.io import formats
from gptctl.io.dataset import stream
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.files import content_hash, object_fingerprint, split_suffixes
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, Encodings, ReadOptions, ShardTask
from gptctl.io.input.find import find_files
from gptctl.io.input.names import distinct_names
from gptctl.io.input.read_task import read_task
from gptctl.io.input.stdin_blocks import read_stdin_blocks
from gptctl.io.object_storage.address import is_uri
from gptctl.io.recognize import recognize, wrong_content

BLOCK_BYTES = 2**20
MIN_TASK_BYTES = 2**20
MAX_TASK_BYTES = 8 * 2**20
TASKS_PER_INPUT = 64
MAX_BLOCKS_PER_TASK = 4096
MAX_PARALLEL_REQUESTS = 16


class Inputs:
    """Everything that a data stage reads, in order."""

    def __init__(self, arguments: Sequence[str], options: ReadOptions) -> None:
        """Resolve the INPUT arguments.

        Raises UsageError (2) for a path that does not exist, DataError (3) for an output that cannot be an input.
        """
        self.options = options
        self.is_stream = "-" in arguments
        if self.is_stream and len(arguments) > 1:
            raise UsageError(
                "INPUT '-' cannot be combined with other inputs", "pipe everything, or name files and folders only"
            )
        self.datasets: dict[str, str] = {}  # folders by the names they have in fingerprints
        self.manifests: dict[str, Manifest] = {}  # by folder
        self.files: list[InputFile] = []
        self.sources: list[str | InputFile] = []  # folders and files, in the order of the arguments
        self._names: set[str] = set()
        self._stream_hash = xxhash.xxh3_128()
        names = distinct_names(arguments) if len(arguments) > 1 else [""] * len(arguments)
        for argument, name in () if self.is_stream else zip(arguments, names, strict=True):
            self._add(argument, name)

    def _add(self, argument: str, name: str) -> None:
        """Add what one INPUT argument names. The names of its files begin with `name`, unless it is empty."""
        found = recognize(argument)
        if found.kind == "documents" and found.manifest:
            self._add_dataset(found.path, found.manifest)
        elif found.kind in ("texts", "empty", "missing"):
            for file in find_files(found.path, name):
                self._add_file(file)
        else:
            raise wrong_content(found, "documents")

    def _add_dataset(self, folder: str, found: Manifest) -> None:
        """Add a dataset folder."""
        self.datasets[unique_name("documents", self.datasets)] = folder
        self.manifests[folder] = found
        self.sources.append(folder)

    def _add_file(self, file: InputFile) -> None:
        """Add a file. If another folder has a file of the same name, append a number, so that ids stay unique."""
        name = unique_name(file.name, self._names)
        self._names.add(name)
        named = InputFile(file.path, name, file.size)
        self.files.append(named)
        self.sources.append(named)

    def unused_options(self) -> str:
        """Return a sentence on options that no file of the input can need, or ""."""
        names = {formats.format_name(split_suffixes(file.path)[0]) for file in self.files}
        given = {"csv.delimiter": self.options.delimiter, "csv.quote": self.options.quote} if "csv" not in names else {}
        given |= {"encoding": self.options.encoding} if not names & {"csv", "txt"} else {}
        unused = [name for name, value in given.items() if value != "auto"]
        kinds = "CSV or TSV" if "txt" in names else "text, CSV or TSV"
        return f"without effect: {', '.join(unused)}; no input is a {kinds} file" if unused else ""

    def fingerprints(self, read_remote: bool = False) -> dict[str, str] | None:
        """Return a fingerprint of each input's content, by name, or None for a stream, which must be read first.

        A file in object storage is identified by its size and ETag, so that it is not read twice, unless `read_remote`.
        """
        if self.is_stream:
            return None
        found = {name: self.manifests[path].content() for name, path in self.datasets.items()}
        with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS) as pool:
            remote = [file for file in self.files if is_uri(file.path) and not read_remote]
            tags = dict(zip(remote, pool.map(lambda file: object_fingerprint(file.path), remote), strict=True))
        return found | {file.name: tags.get(file) or content_hash(file.path) for file in self.files}

    def stream_fingerprint(self) -> dict[str, str]:
        """Return the fingerprint of a stream that was read to its end."""
        return {"-": self._stream_hash.hexdigest()}

    def total_bytes(self) -> int | None:
        """Return the stored size of the inputs, or None for a stream."""
        if self.is_stream:
            return None
        return sum(file.size for file in self.files) + sum(
            shard.bytes for path in self.datasets.values() for shard in self.manifests[path].shards
        )

    def tasks(self, limit: int = 0) -> Iterator[ShardTask]:
        """Yield the shard tasks in order. With a limit, they hold the first `limit` documents."""
        tasks = (ShardTask(index, blocks) for index, blocks in enumerate(self._block_groups()))
        return limit_documents(tasks, limit, self.options) if limit else tasks

    def repeatable_tasks(self, folder: Path, limit: int = 0) -> Callable[[], Iterator[ShardTask]]:
        """Return a function that yields the tasks from the start each time, for stages that read their input twice.

        A stream, or an input with a limit, is first written to `folder`, one file per task.
        """
        if not self.is_stream and not limit:
            return self.tasks
        blocks: list[Block] = []
        for task in self.tasks(limit):
            for block in task.blocks:
                path = folder / f"input-{task.index:05d}.arrows"
                atomic.write_bytes(path, block.data)
                checksum = xxhash.xxh3_128_hexdigest(block.data)
                blocks.append(replace(block, path=str(path), data=b"", checksum=checksum))
        return lambda: (ShardTask(index, (block,)) for index, block in enumerate(blocks))

    def _block_groups(self) -> Iterator[tuple[Block, ...]]:
        """Yield the blocks of each task."""
        if self.is_stream:
            for block in read_stdin_blocks():
                self._stream_hash.update(block.data)
                yield (block,)
            return
        file_bytes = sum(file.size for file in self.files)
        task_bytes = min(max(file_bytes // TASKS_PER_INPUT, MIN_TASK_BYTES), MAX_TASK_BYTES)
        pending: list[Block] = []
        size = 0
        for source in self.sources:
            if isinstance(source, str):
                if pending:
                    yield tuple(pending)
                    pending, size = [], 0
                for shard in self.manifests[source].shards:
                    yield (Block("shard", shard.path, source, size=shard.bytes, checksum=shard.xxh3_128),)
                continue
            for block in formats.for_path(source.path).split_file(source, BLOCK_BYTES, self.options):
                if pending and (size + block.size > task_bytes or len(pending) >= MAX_BLOCKS_PER_TASK):
                    yield tuple(pending)
                    pending, size = [], 0
                pending.append(block)
                size += block.size
        if pending:
            yield tuple(pending)


def limit_documents(tasks: Iterable[ShardTask], limit: int, options: ReadOptions) -> Iterator[ShardTask]:
    """Yield tasks with the first `limit` documents. They are read here, in order, and passed on as tables."""
    remaining = limit
    for task in tasks:
        table, unreadable, encodings = read_task(task, options)
        if len(table) > remaining:
            table, unreadable = table.slice(0, remaining), []  # the unreadable records may lie beyond the limit
            encodings = Encodings(table["encoding"].drop_null().to_pylist()) if encodings else encodings
        remaining -= len(table)
        data = stream.to_bytes(table)
        counted = tuple(encodings.items())
        block = Block("documents", "-", size=table.nbytes, data=data, unreadable=tuple(unreadable), encodings=counted)
        yield ShardTask(task.index, (block,))
        if remaining <= 0:
            return


def unique_name(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken: name, name#2, name#3, ..."""
    if name not in taken:
        return name
    return next(f"{name}#{i}" for i in range(2, len(taken) + 3) if f"{name}#{i}" not in taken)
