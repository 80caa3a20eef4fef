"""From INPUT arguments to shard tasks, by a rule that only the input decides.

INPUT is a file, a folder (all its files, sorted by path; hidden ones are skipped), a glob, a URI of pyarrow.fs, a
dataset folder of an earlier stage, or "-": a stream on standard input. A dataset folder and a stream of ours make one
task per shard. Other files are cut into blocks of about a 64th of the whole input (1 to 8 MiB), and small ones are put
together up to that size: large enough to be worth a process, small enough to keep many busy, and bounded, so that
memory does not grow with the input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import xxhash

from gptctl.core import atomic, plugins
from gptctl.core.errors import DataError, UsageError
from gptctl.io import formats
from gptctl.io.dataset import manifest, shards, stream
from gptctl.io.dataset.manifest import Manifest, Shard
from gptctl.io.dataset.schema import concat
from gptctl.io.files import content_hash, object_fingerprint, plain_path
from gptctl.io.formats import InputFile
from gptctl.io.input.find import find_files
from gptctl.io.input.records import Block, ReadOptions, Task, UnreadableRecord, from_table
from gptctl.io.object_storage.address import is_uri

BLOCK_BYTES = 2**20
MIN_TASK_BYTES = 2**20
MAX_TASK_BYTES = 8 * 2**20
TASKS_PER_INPUT = 64
STREAM_TASK_BYTES = 8 * 2**20
MAX_BLOCKS_PER_TASK = 4096
REQUESTS_AT_ONCE = 16


class Inputs:
    """Everything a data stage reads, in order."""

    def __init__(self, arguments: Sequence[str], options: ReadOptions) -> None:
        """Resolve the INPUT arguments. Raises UsageError (2) for a missing path, DataError (3) for a wrong kind."""
        self.options = options
        self.is_stream = "-" in arguments
        if self.is_stream and len(arguments) > 1:
            raise UsageError(
                "INPUT '-' cannot be mixed with other inputs", "pipe everything, or name files and folders only"
            )
        self.datasets: dict[str, str] = {}
        self.manifests: dict[str, Manifest] = {}
        self.files: list[InputFile] = []
        self.order: list[str | InputFile] = []
        self._names: set[str] = set()
        self._stream_hash = xxhash.xxh3_128()
        for argument in () if self.is_stream else arguments:
            self._add(argument)

    def _add(self, argument: str) -> None:
        """Add what one INPUT argument names."""
        folder = plain_path(argument)
        if manifest.is_ours(folder):
            self._add_dataset(folder)
        elif stage := manifest.record_of(folder).get("stage"):
            raise DataError(
                f"{folder} is an unfinished output of gptctl {stage}", f"run that gptctl {stage} command again first"
            )
        elif manifest.is_wreck(folder):
            raise DataError(f"{folder} is a damaged output of gptctl", "remove it and make it again; see gptctl doctor")
        else:
            for file in find_files(folder):
                self._add_file(file)

    def _add_dataset(self, folder: str) -> None:
        found = manifest.read(folder)
        if found.kind != "documents":
            raise DataError(
                f"{folder} holds {found.kind}, not documents",
                f"it was written by gptctl {found.stage}; name an earlier stage's folder",
            )
        self.datasets[unique("documents", self.datasets)] = folder
        self.manifests[folder] = found
        self.order.append(folder)

    def _add_file(self, file: InputFile) -> None:
        """Two files of one name (from two folders) are told apart by a number, so that ids stay unique."""
        name = unique(file.name, self._names)
        self._names.add(name)
        named = InputFile(file.path, name, file.size)
        self.files.append(named)
        self.order.append(named)

    def fingerprints(self, read_remote: bool = False) -> dict[str, str] | None:
        """Identify the contents of all inputs, by name; None for a stream, whose hash is known at its end.

        Files in object storage are told by size and ETag, so that they need not be read twice, unless `read_remote`.
        """
        if self.is_stream:
            return None
        found = {name: self.manifests[path].content() for name, path in self.datasets.items()}
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            remote = [file for file in self.files if is_uri(file.path) and not read_remote]
            stamps = dict(zip(remote, pool.map(lambda file: object_fingerprint(file.path), remote), strict=True))
        return found | {file.name: stamps.get(file) or content_hash(file.path) for file in self.files}

    def stream_fingerprint(self) -> dict[str, str]:
        """Hash a stream that was read to its end."""
        return {"-": self._stream_hash.hexdigest()}

    def total_bytes(self) -> int | None:
        """Return the size of the inputs as stored, or None for a stream."""
        if self.is_stream:
            return None
        return sum(file.size for file in self.files) + sum(
            shard.bytes for path in self.datasets.values() for shard in self.manifests[path].shards
        )

    def tasks(self, limit: int = 0) -> Iterator[Task]:
        """Yield the shard tasks in order; with a limit, tasks that hold the first `limit` documents."""
        tasks = self._numbered()
        return limited(tasks, limit, self.options) if limit else tasks

    def replayable(self, folder: Path, limit: int = 0) -> Callable[[], Iterator[Task]]:
        """Return a function that yields the tasks afresh each time, for stages that read their input twice.

        A stream (or a limited input) is first laid down in `folder`, one file a task.
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
        return lambda: (Task(index, (block,)) for index, block in enumerate(blocks))

    def _numbered(self) -> Iterator[Task]:
        for index, blocks in enumerate(self._groups()):
            yield Task(index, blocks)

    def _groups(self) -> Iterator[tuple[Block, ...]]:
        if self.is_stream:
            for block in stream_blocks():
                self._stream_hash.update(block.data)
                yield (block,)
            return
        target = min(max(sum(file.size for file in self.files) // TASKS_PER_INPUT, MIN_TASK_BYTES), MAX_TASK_BYTES)
        pending: list[Block] = []
        size = 0
        for source in self.order:
            if isinstance(source, str):
                if pending:
                    yield tuple(pending)
                    pending, size = [], 0
                for shard in self.manifests[source].shards:
                    yield (Block("shard", shard.path, source, size=shard.bytes, checksum=shard.xxh3_128),)
                continue
            for block in formats.for_path(source.path).cut(source, BLOCK_BYTES, self.options):
                if pending and (size + block.size > target or len(pending) >= MAX_BLOCKS_PER_TASK):
                    yield tuple(pending)
                    pending, size = [], 0
                pending.append(block)
                size += block.size
        if pending:
            yield tuple(pending)


def read_task(task: Task, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Read a task's documents and what could not be read. Raises DataError (3) where a whole file is unreadable."""
    parts = list(read_blocks(task, options))
    return concat([table for table, _ in parts]), [item for _, unreadable in parts for item in unreadable]


def read_blocks(task: Task, options: ReadOptions) -> Iterator[tuple[pa.Table, list[UnreadableRecord]]]:
    """Read a task a block at a time, small files together, for whoever need not see it as a whole."""
    tables: list[pa.Table] = []
    unreadable: list[UnreadableRecord] = []
    size = 0
    for block in task.blocks:
        if tables and size + block.size > BLOCK_BYTES:
            yield concat(tables), unreadable
            tables, unreadable, size = [], [], 0
        table, wrong = read_block(block, options)
        tables.append(table)
        unreadable += wrong
        size += block.size
    if tables:
        yield concat(tables), unreadable


def read_block(block: Block, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
    """Read one block with the format it names."""
    if block.format == "shard":
        table = shards.table_from(manifest.read_shard(block.path, Shard(block.name, 0, block.size, block.checksum)))
        as_named = (options.text_column, options.id_column) == ("text", "id")
        return (table, []) if as_named else from_table(table, 0, block.name, options)
    if block.format in ("stream", "documents"):
        data = block.data or Path(block.path).read_bytes()
        table = stream.from_bytes(data)
        if block.format == "documents":
            return table, list(block.unreadable)
        documents, unreadable = from_table(table, block.start, "-", options)
        return documents, [*block.unreadable, *unreadable]
    return plugins.load(formats.__name__, block.format).read(block, options)  # type: ignore[no-any-return]


def stream_blocks() -> Iterator[Block]:
    """Read standard input as blocks: one for each shard of the producer, or of about 8 MiB from other producers."""
    pending: list[pa.RecordBatch] = []
    number: int | None = None
    row = 0
    for shard, batch in stream.read(stream.standard_input()):
        full = sum(b.nbytes for b in pending) >= STREAM_TASK_BYTES if shard is None else shard != number
        if pending and full:
            yield stream_block(pending, row)
            row += sum(len(b) for b in pending)
            pending = []
        number = shard
        pending.append(batch)
    if pending:
        yield stream_block(pending, row)


def stream_block(batches: list[pa.RecordBatch], first_row: int) -> Block:
    """Pack batches of a stream."""
    table = pa.Table.from_batches(batches)
    return Block("stream", "-", start=first_row, size=table.nbytes, data=stream.to_bytes(table))


def limited(tasks: Iterable[Task], limit: int, options: ReadOptions) -> Iterator[Task]:
    """Cut the tasks off after `limit` documents. They are read here, in order, and handed on as tables."""
    left = limit
    for task in tasks:
        table, unreadable = read_task(task, options)
        if len(table) > left:
            table, unreadable = table.slice(0, left), []  # what is unreadable may lie behind the limit
        left -= len(table)
        yield Task(
            task.index,
            (Block("documents", "-", size=table.nbytes, data=stream.to_bytes(table), unreadable=tuple(unreadable)),),
        )
        if left <= 0:
            return


def unique(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken: name, name#2, name#3, ..."""
    if name not in taken:
        return name
    return next(f"{name}#{i}" for i in range(2, len(taken) + 3) if f"{name}#{i}" not in taken)
