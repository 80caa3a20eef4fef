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
from gptctl.io.input.records import Bad, ReadOptions, Task

SHARDS = ("*/part-*.arrow", "shards/*/part-*.arrow")


class Runner(Protocol):
    """Runs a function on items, in order; one of gptctl/runners."""

    def __call__(
        self, function: Callable[[Any], Any], items: Iterable[Any], workers: int, preload: Sequence[str] = ()
    ) -> Iterator[Any]:
        """Yield the answers in the order of the items."""


@dataclass
class Outcome:
    """What a stage made of one task's documents.

    `tables` by sub-folder of shards/: "" for documents, "train", "val", "test" for tokens. `figures` are sums that the
    stage adds up over all tasks. `asides` are tables beside the dataset by folder: rejects, clusters.
    """

    tables: dict[str, pa.Table]
    counts: Counts
    figures: dict[str, Any] = field(default_factory=dict)
    asides: dict[str, pa.Table] = field(default_factory=dict)


def join(parts: Sequence[Outcome]) -> Outcome:
    """Put the outcomes of the parts of a task together; their figures are added up."""
    if len(parts) == 1:
        return parts[0]
    counts, figures = Counts(), Counter[str]()
    for part in parts:
        counts.add(part.counts)
        figures.update(part.figures)
    tables, asides = (
        {name: concat([group[name] for group in groups if name in group]) for name in dict.fromkeys(chain(*groups))}
        for groups in ([part.tables for part in parts], [part.asides for part in parts])
    )
    return Outcome(tables, counts, dict(figures), asides)


@dataclass
class Result:
    """One finished task; `tables` are set only where the output is a pipe."""

    index: int
    key: str
    counts: Counts
    figures: dict[str, Any]
    shards: list[Shard]
    bad: list[Bad]
    tables: dict[str, pa.Table] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record in OUT/work/."""
        return {
            "key": self.key,
            "counts": self.counts.to_json(),
            "figures": self.figures,
            "shards": [shard.to_json() for shard in self.shards],
            "bad": [bad.to_json() for bad in self.bad],
        }

    @classmethod
    def from_json(cls, index: int, value: dict[str, Any]) -> Result:
        """Read a record."""
        bad = [Bad.from_json(item) for item in value["bad"]]
        made = [Shard(**shard) for shard in value["shards"]]
        return cls(index, value["key"], Counts.from_json(value["counts"]), value["figures"], made, bad)


@dataclass(frozen=True)
class Job:
    """One pass over the documents: what to do with a task's table, and where its results go (None: into a pipe).

    `preload` names modules that `transform` imports and that take long. `by_block`: `transform` need not see a task as
    a whole, and its figures are numbers; it is given one block after the other, so that less is in memory. `read` gives
    a task's documents, where an earlier pass kept them.
    """

    transform: Callable[[Task, pa.Table], Outcome]
    options: ReadOptions
    out: Path | None
    compression: str | None = "lz4"
    preload: tuple[str, ...] = ()
    by_block: bool = False
    read: Callable[[Task, ReadOptions], tuple[pa.Table, list[Bad]]] = read_task


@dataclass
class Totals:
    """The results of all tasks together."""

    counts: Counts = field(default_factory=Counts)
    figures: list[dict[str, Any]] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)


def run(
    job: Job, tasks: Iterable[Task], runner: Runner, workers: int, context: Context, pipe: StreamWriter | None = None
) -> Totals:
    """Run a job over its tasks and collect the results in the order of the input."""
    totals = Totals()
    done: dict[int, Result] = {}
    waiting = (task for task in tasks if not reuse(job, task, done))
    finished = 0

    def collect(result: Result) -> None:
        nonlocal finished
        totals.counts.add(result.counts)
        totals.figures.append(result.figures)
        totals.shards += result.shards
        totals.bad += result.bad
        if pipe is not None:
            pipe.write(result.index, result.tables[""])
        finished += 1
        context.progress(finished, None, "shards", f"{totals.counts.documents_in:,} documents")
        context.stop.check("stopped")

    following = 0
    for result in runner(partial(execute, job), waiting, workers, (type(job.transform).__module__, *job.preload)):
        while following in done:
            collect(done.pop(following))
            following += 1
        collect(result)
        following = result.index + 1
    for index in sorted(done):
        collect(done[index])
    if job.out is not None:
        drop_strays(job.out, finished)
    return totals


def drop_strays(out: Path, count: int) -> None:
    """Remove what a run that was cut off made of tasks that there are no more: it read another stream."""
    for pattern in SHARDS:
        for path in sorted(out.glob(pattern)):
            if int(path.stem.removeprefix("part-")) >= count:
                path.unlink()


def reuse(job: Job, task: Task, done: dict[int, Result]) -> bool:
    """Take a task's result from an earlier run of the same command, if it is whole."""
    if job.out is None:
        return False
    noted = checked_json.read(record_path(job.out, task.index))
    if noted is None:
        return False
    result = Result.from_json(task.index, noted)
    whole = all(shards.has_size(job.out, shard) for shard in result.shards)
    if result.key != task.key() or not whole:
        return False
    done[task.index] = result
    return True


def execute(job: Job, task: Task) -> Result:
    """Do one task, in a worker: read, transform, write the shard, then its record."""
    bad: list[Bad] = []
    parts: list[Outcome] = []
    for table, wrong in read_blocks(task, job.options) if job.by_block else [job.read(task, job.options)]:
        bad += wrong
        parts.append(job.transform(task, table))
    outcome = join(parts)
    counts = outcome.counts
    counts.documents_in += len(bad)
    counts.quarantined.update(item.reason for item in bad)
    result = Result(task.index, task.key(), counts, outcome.figures, [], bad)
    if job.out is None:
        result.tables = outcome.tables
        return result
    for split, part in outcome.tables.items():
        path = "/".join(name for name in ("shards", split, f"part-{task.index:05d}.arrow") if name)
        result.shards.append(shards.write_shard(job.out, path, part, job.compression, flush="file"))
    for folder, aside in outcome.asides.items():
        path = f"{folder}/part-{task.index:05d}.arrow"
        if len(aside):
            shards.write_shard(job.out, path, aside, flush="file")
        else:
            (job.out / path).unlink(missing_ok=True)
    checked_json.write(record_path(job.out, task.index), result.to_json(), flush="none")
    return result


def record_path(out: Path, index: int) -> Path:
    """Say where a task's record stands."""
    return out / "work" / f"part-{index:05d}.json"


def write_quarantine(out: Path, bad: list[Bad]) -> None:
    """Write what could not be read, one JSON line each, in the order of the input."""
    (out / "quarantine.jsonl").unlink(missing_ok=True)
    if bad:
        atomic.write_bytes(out / "quarantine.jsonl", b"".join(orjson.dumps(item.to_json()) + b"\n" for item in bad))


def check_readable(totals: Totals, max_bad: float, where: str) -> None:
    """Fail where there is no document, or too many could not be read. Raises DataError (3)."""
    counts = totals.counts
    bad = counts.quarantined.total()
    if counts.documents_in == 0:
        raise DataError("the input holds no record", "check that the files are not empty and of a known format")
    if bad and bad / counts.documents_in > max_bad:
        reason, _ = counts.quarantined.most_common(1)[0]
        first = totals.bad[0] if totals.bad else None
        at = f", first at {first.source} {first.position}" if first else ""
        hint = f"see {where}; to accept them: --set max_bad={min(1.0, round(bad / counts.documents_in + 0.001, 3))}"
        if reason.startswith("no column"):
            hint = "name the column that holds the text with --text-column"
        raise DataError(f"{bad:,} of {counts.documents_in:,} records are unreadable (most often: {reason}{at})", hint)


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
    """Flush the names of all shards and asides, before the manifest is written."""
    for folder in {path.parent for pattern in SHARDS for path in out.glob(pattern)}:
        atomic.sync_folder(folder)


def text_bytes(table: pa.Table) -> int:
    """Sum the bytes of a table's text."""
    return int(pc.sum(pc.binary_length(table["text"])).as_py() or 0)


@contextmanager
def spool_folder(out: Path | None) -> Iterator[Path]:
    """Return a place for what tasks hand to each other, and for a stream that is read twice.

    Its files need not be flushed: it is named after this start of the machine, and what others left is removed.
    """
    if out is not None:
        spool = out / "work" / f"spool-{atomic.boot()}"
        for left in out.glob("work/spool-*"):
            if left != spool:
                shutil.rmtree(left)
        yield spool
        return
    with tempfile.TemporaryDirectory(prefix="gptctl-") as folder:
        yield Path(folder)
