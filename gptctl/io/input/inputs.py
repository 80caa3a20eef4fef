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
from gptctl.core.errors import DataError, UsageError
from gptctl.io import formats
from gptctl.io.dataset import manifest, stream
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.files import content_hash, object_fingerprint, plain_path, split_suffixes
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import Block, Encodings, ReadOptions, ShardTask
from gptctl.io.input.find import find_files
from gptctl.io.input.names import distinct_names
from gptctl.io.input.read_task import read_task
from gptctl.io.input.stdin_blocks import read_stdin_blocks
from gptctl.io.object_storage.address import is_uri, list_folder
from gptctl.io.recognize import recognize, wrong_content

BLOCK_BYTES = 2**20
MIN_TASK_BYTES = 2**20
MAX_TASK_BYTES = 8 * 2**20
TASKS_PER_INPUT = 64
MAX_BLOCKS_PER_TASK = 4096
MAX_PARALLEL_REQUESTS = 16
MAX_NAMED = 5  # empty files


class Inputs:
    """Everything that a data stage reads, in order."""

    def __init__(self, arguments: Sequence[str], options: ReadOptions, keeps_splits: bool = False) -> None:
        """Resolve the INPUT arguments.

        With `keeps_splits`, a dataset that is divided into train, val and test may be an input; the reader must treat
        each task according to its `split`. Raises UsageError (2) for a path that does not exist, DataError (3) for an
        output that cannot be an input.
        """
        self.options = options
        self.keeps_splits = keeps_splits
        self.is_stream = "-" in arguments
        if self.is_stream and len(arguments) > 1:
            raise UsageError(
                "INPUT '-' cannot be combined with other inputs", "pipe everything, or name files and folders only"
            )
        self.datasets: dict[str, str] = {}  # datasets, or splits of them, by the names they have in fingerprints
        self.manifests: dict[str, Manifest] = {}  # by dataset or split
        self.folders: dict[str, str] = {}  # by dataset or split
        self.chosen_splits: dict[str, str] = {}  # by dataset or split: the split, or "" for the whole dataset
        self.files: list[InputFile] = []
        self.sources: list[str | InputFile] = []  # folders and files, in the order of the arguments
        self._names: dict[str, int] = {}  # with the number that the last file of this name was given
        self._stream_hash = xxhash.xxh3_128()
        names = distinct_names(arguments) if len(arguments) > 1 else [""] * len(arguments)
        for argument, name in () if self.is_stream else zip(arguments, names, strict=True):
            self._add(argument, name)
        self._check_datasets()

    def _check_datasets(self) -> None:
        """Raise DataError (3) if nothing is read but datasets for which a command kept no document."""
        rows = {place: sum(shard.rows for shard in found.shards) for place, found in self.manifests.items()}
        empty = [place for place, split in self.chosen_splits.items() if not (split or rows[place])]
        if empty and not self.files and len(empty) == len(self.datasets):
            found = self.manifests[empty[0]]
            reasons = [reason for reason, _ in found.counts.dropped.most_common(1)]
            raise DataError(
                f"{empty[0]} holds no documents: gptctl {found.stage} kept none of {found.counts.documents_in:,}",
                "run it again with other settings"
                + "".join(f": most often, {reason} dropped them" for reason in reasons),
            )

    def _add(self, argument: str, name: str) -> None:
        """Add what one INPUT argument names. The names of its files begin with `name`, unless it is empty."""
        if part := manifest.divided_dataset(plain_path(argument)):
            folder, split = part
            self._add_dataset(folder, manifest.read(folder), split)
            return
        found = recognize(argument)
        if found.kind == "documents" and found.manifest:
            self._add_dataset(found.path, found.manifest)
        elif found.kind in ("texts", "empty", "missing") or (found.kind == "bin" and list_folder(found.path)):
            for file in find_files(found.path, name):
                self._add_file(file)
        else:
            raise wrong_content(found, "documents")

    def _add_dataset(self, folder: str, found: Manifest, split: str = "") -> None:
        """Add a dataset folder, or one split of it. Raises DataError (3) for one whose splits would be mixed."""
        if split:
            found = found.only(split)
        elif found.splits and not self.keeps_splits:
            raise DataError(
                f"{folder} is divided into {', '.join(found.splits)}, which this command would mix",
                f"name one of them: {manifest.split_folder(folder, found.splits[0])}",
            )
        place = manifest.split_folder(folder, split) if split else folder
        self.datasets[unique_name("documents", self.datasets)] = place
        self.manifests[place] = found
        self.folders[place] = folder
        self.chosen_splits[place] = split
        self.sources.append(place)

    def _add_file(self, file: InputFile) -> None:
        """Add a file. If another folder has a file of the same name, append a number, so that ids stay unique."""
        number = self._names.get(file.name, 0) + 1
        name = file.name if number == 1 else f"{file.name}#{number}"
        while name in self._names:
            number += 1
            name = f"{file.name}#{number}"
        self._names[file.name] = number
        self._names.setdefault(name, 1)
        named = replace(file, name=name)
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

    def empty_files(self) -> str:
        """Return a sentence on files of 0 bytes, or ""."""
        names = [file.name for file in self.files if not file.size and not file.problem]
        if not names:
            return ""
        verb = "is" if len(names) == 1 else "are"
        shown = ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")
        return f"{len(names):,} of {len(self.files):,} files {verb} empty: {shown}"

    def fingerprints(self, read_remote: bool = False) -> dict[str, str] | None:
        """Return a fingerprint of each input's content, by name, or None for a stream, which must be read first.

        A file in object storage is identified by its size and ETag, so that it is not read twice, unless `read_remote`.
        """
        if self.is_stream:
            return None
        found = {
            name: manifest.current_content(self.folders[place], self.chosen_splits[place])
            for name, place in self.datasets.items()
        }
        with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS) as pool:
            files = [file for file in self.files if not file.problem]
            remote = [file for file in files if is_uri(file.path) and not read_remote]
            tags = dict(zip(remote, pool.map(lambda file: object_fingerprint(file.path), remote), strict=True))
        found |= {file.name: file.problem for file in self.files if file.problem}
        return found | {file.name: tags.get(file) or content_hash(file.path) for file in files}

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

    def expected_tasks(self, limit: int = 0) -> int | None:
        """Return about how many tasks there are, by the sizes of the files. None for a stream, or with a limit."""
        if self.is_stream or limit:
            return None
        size = self._task_bytes()
        whole = [file.size for file in self.files if file.compressed and file.size > size]  # they cannot be cut
        rest = sum(file.size for file in self.files) - sum(whole)
        return sum(len(found.shards) for found in self.manifests.values()) + len(whole) + -(-rest // size)

    def _task_bytes(self) -> int:
        """Return how many bytes of files a task has."""
        size = sum(file.size for file in self.files)
        return min(max(size // TASKS_PER_INPUT, MIN_TASK_BYTES), MAX_TASK_BYTES)

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
            for block in read_stdin_blocks(self.options):
                self._stream_hash.update(block.data)
                yield (block,)
            return
        task_bytes = self._task_bytes()
        pending: list[Block] = []
        size = 0
        for source in self.sources:
            if isinstance(source, str):
                if pending:
                    yield tuple(pending)
                    pending, size = [], 0
                yield from self._shards_of(source)
                continue
            if source.problem:
                pending.append(Block("unreadable", source.name, unreadable=(source.as_unreadable(),)))
                continue
            for block in formats.for_path(source.path).split_file(source, BLOCK_BYTES, self.options):
                if pending and (size + block.size > task_bytes or len(pending) >= MAX_BLOCKS_PER_TASK):
                    yield tuple(pending)
                    pending, size = [], 0
                pending.append(block)
                size += block.size
        if pending:
            yield tuple(pending)

    def _shards_of(self, place: str) -> Iterator[tuple[Block, ...]]:
        """Yield the shards of a dataset or of a split, each as a task of its own."""
        folder, found = self.folders[place], self.manifests[place]
        for shard in found.shards:
            split = shard.split if folder == place else ""
            yield (Block("shard", shard.path, folder, size=shard.bytes, checksum=shard.xxh3_128, split=split),)

    @property
    def is_divided(self) -> bool:
        """Return whether an input is divided into train, val and test already."""
        return any(self.manifests[place].splits and self.folders[place] == place for place in self.manifests)


def limit_documents(tasks: Iterable[ShardTask], limit: int, options: ReadOptions) -> Iterator[ShardTask]:
    """Yield tasks with the first `limit` documents. They are read here, in order, and passed on as tables."""
    remaining = limit
    for task in tasks:
        table, unreadable, encodings, skipped = read_task(task, options)
        if len(table) > remaining:
            table, unreadable = table.slice(0, remaining), []  # the unreadable records may lie beyond the limit
            encodings = Encodings(table["encoding"].drop_null().to_pylist()) if encodings else encodings
        remaining -= len(table)
        data = stream.to_bytes(table)
        block = Block(
            "documents", "-", size=table.nbytes, data=data, unreadable=tuple(unreadable),
            encodings=tuple(encodings.items()), skipped=tuple(skipped.items()), split=task.split,
        )  # fmt: skip
        yield ShardTask(task.index, (block,))
        if remaining <= 0:
            return


def unique_name(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken: name, name#2, name#3, ..."""
    if name not in taken:
        return name
    return next(f"{name}#{i}" for i in range(2, len(taken) + 3) if f"{name}#{i}" not in taken)
