"""Run shard tasks once each, in order, and put their results on disk or into a pipe.

A task's shard is written by the worker, then a record of it (counts, checksum) in OUT/work/; a task whose record stands
is not run again. So a killed stage loses at most the shards in flight, and the same command resumes. When all are done
the records become the manifest, and OUT/work/ goes.

A shard is on disk before its record is written; names and records are not flushed one by one: after a power cut, a
record or shard that is absent or cut short means that its task is run again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core import atomic
from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.core.summary import Counts
from gptctl.io.dataset import checked_json, shards
from gptctl.io.dataset.manifest import Shard
from gptctl.io.dataset.schema import concat, conform, unify
from gptctl.io.dataset.stream import StreamWriter
from gptctl.io.input.inputs import read_blocks, read_task
from gptctl.io.input.records import ReadOptions, Task, UnreadableRecord

SHARDS = ("*/part-*.arrow", "shards/*/part-*.arrow")


class Executor(Protocol):
    """Runs a function on items, in order; one of gptctl/runners."""

    def __call__(
        self, function: Callable[[Any], Any], items: Iterable[Any], workers: int, preload: Sequence[str] = ()
    ) -> Iterator[Any]:
        """Yield the answers in the order of the items."""


@dataclass
class TaskOutput:
    """What a stage made of one task's documents.

    `tables` by sub-folder of shards/: "" for documents, "train", "val", "test" for tokens. `figures` are sums that the
    stage adds up over all tasks. `side_tables` are tables beside the dataset by folder: rejects, clusters.
    """

    tables: dict[str, pa.Table]
    counts: Counts
    figures: dict[str, Any] = field(default_factory=dict)
    side_tables: dict[str, pa.Table] = field(default_factory=dict)


def join(parts: Sequence[TaskOutput]) -> TaskOutput:
    """Put the outcomes of the parts of a task together; their figures are added up."""
    if len(parts) == 1:
        return parts[0]
    counts, figures = Counts(), Counter[str]()
    for part in parts:
        counts.add(part.counts)
        figures.update(part.figures)
    tables, side_tables = (
        {name: concat([group[name] for group in groups if name in group]) for name in dict.fromkeys(chain(*groups))}
        for groups in ([part.tables for part in parts], [part.side_tables for part in parts])
    )
    return TaskOutput(tables, counts, dict(figures), side_tables)


@dataclass
class TaskRecord:
    """One finished task; `tables` are set only where the output is a pipe."""

    index: int
    key: str
    counts: Counts
    figures: dict[str, Any]
    shards: list[Shard]
    unreadable: list[UnreadableRecord]
    tables: dict[str, pa.Table] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record in OUT/work/."""
        return {
            "key": self.key,
            "counts": self.counts.to_json(),
            "figures": self.figures,
            "shards": [shard.to_json() for shard in self.shards],
            "bad": [record.to_json() for record in self.unreadable],
        }

    @classmethod
    def from_json(cls, index: int, value: dict[str, Any]) -> TaskRecord:
        """Read a record."""
        unreadable = [UnreadableRecord.from_json(item) for item in value["bad"]]
        made = [Shard(**shard) for shard in value["shards"]]
        return cls(index, value["key"], Counts.from_json(value["counts"]), value["figures"], made, unreadable)


@dataclass(frozen=True)
class ShardPipeline:
    """One pass over the documents: what to do with a task's table, and where its results go (None: into a pipe).

    `preload` names modules that `transform` imports and that take long. `by_block`: `transform` need not see a task as
    a whole, and its figures are numbers; it is given one block after the other, so that less is in memory. `read` gives
    a task's documents, where an earlier pass kept them.
    """

    transform: Callable[[Task, pa.Table], TaskOutput]
    options: ReadOptions
    out: Path | None
    compression: str | None = "lz4"
    preload: tuple[str, ...] = ()
    by_block: bool = False
    read: Callable[[Task, ReadOptions], tuple[pa.Table, list[UnreadableRecord]]] = read_task


@dataclass
class PipelineTotals:
    """The results of all tasks together."""

    counts: Counts = field(default_factory=Counts)
    figures: list[dict[str, Any]] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)
    unreadable: list[UnreadableRecord] = field(default_factory=list)


def run(
    pipeline: ShardPipeline,
    tasks: Iterable[Task],
    executor: Executor,
    workers: int,
    context: Context,
    pipe: StreamWriter | None = None,
) -> PipelineTotals:
    """Run a pipeline over its tasks and collect the results in the order of the input."""
    totals = PipelineTotals()
    done: dict[int, TaskRecord] = {}
    waiting = (task for task in tasks if not reuse(pipeline, task, done))
    finished = 0

    def collect(result: TaskRecord) -> None:
        nonlocal finished
        totals.counts.add(result.counts)
        totals.figures.append(result.figures)
        totals.shards += result.shards
        totals.unreadable += result.unreadable
        if pipe is not None:
            pipe.write(result.index, result.tables[""])
        finished += 1
        context.progress(finished, None, "shards", f"{totals.counts.documents_in:,} documents")
        context.stop.check("stopped")

    following = 0
    for result in executor(
        partial(execute, pipeline), waiting, workers, (type(pipeline.transform).__module__, *pipeline.preload)
    ):
        while following in done:
            collect(done.pop(following))
            following += 1
        collect(result)
        following = result.index + 1
    for index in sorted(done):
        collect(done[index])
    if pipeline.out is not None:
        drop_strays(pipeline.out, finished)
    return totals


def drop_strays(out: Path, count: int) -> None:
    """Remove what a run that was cut off made of tasks that there are no more: it read another stream."""
    for pattern in SHARDS:
        for path in sorted(out.glob(pattern)):
            if int(path.stem.removeprefix("part-")) >= count:
                path.unlink()


def reuse(pipeline: ShardPipeline, task: Task, done: dict[int, TaskRecord]) -> bool:
    """Take a task's result from an earlier run of the same command, if it is whole."""
    if pipeline.out is None:
        return False
    noted = checked_json.read(record_path(pipeline.out, task.index))
    if noted is None:
        return False
    result = TaskRecord.from_json(task.index, noted)
    whole = all(shards.has_size(pipeline.out, shard) for shard in result.shards)
    if result.key != task.key() or not whole:
        return False
    done[task.index] = result
    return True


def execute(pipeline: ShardPipeline, task: Task) -> TaskRecord:
    """Do one task, in a worker: read, transform, write the shard, then its record."""
    unreadable: list[UnreadableRecord] = []
    parts: list[TaskOutput] = []
    for table, wrong in (
        read_blocks(task, pipeline.options) if pipeline.by_block else [pipeline.read(task, pipeline.options)]
    ):
        unreadable += wrong
        parts.append(pipeline.transform(task, table))
    output = join(parts)
    counts = output.counts
    counts.documents_in += len(unreadable)
    counts.quarantined.update(item.reason for item in unreadable)
    result = TaskRecord(task.index, task.key(), counts, output.figures, [], unreadable)
    if pipeline.out is None:
        result.tables = output.tables
        return result
    for split, part in output.tables.items():
        path = "/".join(name for name in ("shards", split, f"part-{task.index:05d}.arrow") if name)
        result.shards.append(shards.write_shard(pipeline.out, path, part, pipeline.compression, flush="file"))
    for folder, table in output.side_tables.items():
        path = f"{folder}/part-{task.index:05d}.arrow"
        if len(table):
            shards.write_shard(pipeline.out, path, table, flush="file")
        else:
            (pipeline.out / path).unlink(missing_ok=True)
    checked_json.write(record_path(pipeline.out, task.index), result.to_json(), flush="none")
    return result


def record_path(out: Path, index: int) -> Path:
    """Say where a task's record stands."""
    return out / "work" / f"part-{index:05d}.json"


def write_quarantine(out: Path, unreadable: list[UnreadableRecord]) -> None:
    """Write what could not be read, one JSON line each, in the order of the input."""
    (out / "quarantine.jsonl").unlink(missing_ok=True)
    if unreadable:
        lines = b"".join(orjson.dumps(record.to_json()) + b"\n" for record in unreadable)
        atomic.write_bytes(out / "quarantine.jsonl", lines)


def check_readable(totals: PipelineTotals, max_bad: float, where: str) -> None:
    """Fail where there is no document, or too many could not be read. Raises DataError (3)."""
    counts = totals.counts
    count = counts.quarantined.total()
    if counts.documents_in == 0:
        raise DataError("the input holds no record", "check that the files are not empty and of a known format")
    if count and count / counts.documents_in > max_bad:
        reason, _ = counts.quarantined.most_common(1)[0]
        first = totals.unreadable[0] if totals.unreadable else None
        at = f", first at {first.source} {first.position}" if first else ""
        enough = min(1.0, round(count / counts.documents_in + 0.001, 3))
        hint = f"see {where}; to accept them: --set max_bad={enough}"
        if reason.startswith("no column"):
            hint = "name the column that holds the text with --text-column"
        raise DataError(f"{count:,} of {counts.documents_in:,} records are unreadable (most often: {reason}{at})", hint)


def unify_shards(out: Path, made: list[Shard], compression: str | None = "lz4") -> list[Shard]:
    """Give all shards of a folder the same columns, rewriting those that lack some (JSON input need not be regular)."""
    schemas = [pa.ipc.open_file(pa.memory_map(str(out / shard.path))).schema for shard in made]
    if all(schema.equals(schemas[0], check_metadata=True) for schema in schemas[1:]):
        return made
    target = unify(schemas)
    fixed = []
    for shard, schema in zip(made, schemas, strict=True):
        if schema.equals(target, check_metadata=True):
            fixed.append(shard)
        else:
            table = shards.table_from((out / shard.path).read_bytes())
            fixed.append(shards.write_shard(out, shard.path, conform(table, target), compression))
    return fixed


def finish(out: Path) -> None:
    """Remove the records once the manifest holds them."""
    shutil.rmtree(out / "work", ignore_errors=True)


def sync(out: Path) -> None:
    """Flush the names of all shards and side_tables, before the manifest is written."""
    for folder in {path.parent for pattern in SHARDS for path in out.glob(pattern)}:
        atomic.sync_folder(folder)


def text_bytes(table: pa.Table) -> int:
    """Sum the bytes of a table's text."""
    return int(pc.sum(pc.binary_length(table["text"])).as_py() or 0)


@contextmanager
def scratch_folder(out: Path | None) -> Iterator[Path]:
    """Return a place for what tasks hand to each other, and for a stream that is read twice.

    Its files need not be flushed: it is named after this start of the machine, and what others left is removed.
    """
    if out is not None:
        scratch = out / "work" / f"scratch-{atomic.boot()}"
        for left in out.glob("work/scratch-*"):
            if left != scratch:
                shutil.rmtree(left)
        yield scratch
        return
    with tempfile.TemporaryDirectory(prefix="gptctl-") as folder:
        yield Path(folder)
