"""ShardPipeline: read each shard task, transform its documents, and write the result to disk or into a pipe.

A worker writes a task's shard, then a record of it (counts, checksum) in OUT/work/. A task that has a record is not run
again, so a killed stage loses at most the shards that were being made, and the same command resumes it. When all tasks
are finished, the manifest takes over what the records say, and OUT/work/ is removed.

A shard is flushed to disk before its record is written. File names and records are not flushed one by one: if a power
cut loses or damages one, that task is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from gptctl.core import checked_json
from gptctl.core.context import Context
from gptctl.executors import Executor
from gptctl.io.dataset import shards
from gptctl.io.dataset.shard_format import ARROW, ShardFormat
from gptctl.io.dataset.stream import StreamWriter
from gptctl.io.input.blocks import Encodings, ReadOptions, ReadResult, ShardTask, Skipped, UnreadableRecord
from gptctl.io.input.read_task import read_in_groups, read_task
from gptctl.pipeline.finalize import remove_stale_shards
from gptctl.pipeline.task_results import PipelineTotals, TaskOutput, TaskRecord, combine_outputs


@dataclass(frozen=True)
class ShardPipeline:
    """One pass over the documents of a stage's input.

    `transform` turns a task's documents into output, in a worker. `folder` is where shards are written, in the format
    `storage`; if it is None, tables are returned instead, for a pipe. `preload` names modules that `transform` imports
    and that take long. With `in_groups`, `transform` gets about 1 MiB of a task at a time, to save memory, and its
    stats must be numbers. `read` returns a task's documents; a stage replaces it if an earlier pass has cached them.
    """

    transform: Callable[[ShardTask, pa.Table], TaskOutput]
    options: ReadOptions
    folder: Path | None
    storage: ShardFormat = ARROW
    preload: tuple[str, ...] = ()
    in_groups: bool = False
    read: Callable[[ShardTask, ReadOptions], ReadResult] = read_task

    def run(
        self, tasks: Iterable[ShardTask], executor: Executor, context: Context, pipe: StreamWriter | None = None
    ) -> PipelineTotals:
        """Run the tasks that are not finished yet, and return the results of all in the order of the input."""
        totals = PipelineTotals()
        finished = 0
        for record in self._in_order(tasks, executor):
            totals.add(record)
            if pipe is not None:
                pipe.write(record.index, record.tables[""])
            finished += 1
            context.report_shards(finished, note=f"{totals.counts.documents_in:,} documents")
            context.stop.check("stopped")
        if self.folder is not None:
            remove_stale_shards(self.folder, finished)
        return totals

    def _in_order(self, tasks: Iterable[ShardTask], executor: Executor) -> Iterator[TaskRecord]:
        """Yield the records of all tasks by index: those of an earlier run, and those that workers return now."""
        earlier: dict[int, TaskRecord] = {}
        following = 0
        for record in executor.map(
            self.process_task, self._unfinished(tasks, earlier), (type(self.transform).__module__, *self.preload)
        ):
            while following in earlier:
                yield earlier.pop(following)
                following += 1
            yield record
            following = record.index + 1
        for index in sorted(earlier):
            yield earlier[index]

    def _unfinished(self, tasks: Iterable[ShardTask], earlier: dict[int, TaskRecord]) -> Iterator[ShardTask]:
        """Yield the tasks to run, and put the records of the others into `earlier`."""
        for task in tasks:
            record = self.earlier_record(task)
            if record is None:
                yield task
            else:
                earlier[task.index] = record

    def earlier_record(self, task: ShardTask) -> TaskRecord | None:
        """Return a task's record from an earlier run, if its input is the same and its shards are complete."""
        if self.folder is None:
            return None
        stored = checked_json.read(record_path(self.folder, task.index))
        if stored is None:
            return None
        record = TaskRecord.from_json(task.index, stored)
        is_complete = all(shards.has_size(self.folder, shard) for shard in record.shards)
        return record if is_complete and record.key == task.key() else None

    def process_task(self, task: ShardTask) -> TaskRecord:
        """Read, transform and write one task, in a worker; then write its record."""
        unreadable: list[UnreadableRecord] = []
        encodings, skipped = Encodings(), Skipped()
        outputs: list[TaskOutput] = []
        for found in read_in_groups(task, self.options) if self.in_groups else [self.read(task, self.options)]:
            unreadable += found.unreadable
            encodings.update(found.encodings)
            skipped.update(found.skipped)
            outputs.append(self.transform(task, found.documents))
        output = combine_outputs(outputs)
        unreadable += output.quarantined
        output.counts.documents_in += len(unreadable)
        output.counts.quarantined.update(item.reason for item in unreadable)
        output.counts.encodings.update(encodings)
        output.counts.skipped.update(skipped)
        record = TaskRecord(task.index, task.key(), output.counts, output.stats, [], unreadable)
        if self.folder is None:
            record.tables = output.tables
            return record
        name = f"part-{task.index:05d}{self.storage.suffix}"
        for split, table in output.tables.items():
            path = "/".join(part for part in ("shards", split, name) if part)
            record.shards.append(shards.write_shard(self.folder, path, table, self.storage, flush="file"))
        for side, table in output.side_tables.items():
            path = f"{side}/{name}"
            if len(table):
                shards.write_shard(self.folder, path, table, self.storage, flush="file")
            else:
                (self.folder / path).unlink(missing_ok=True)
        checked_json.write(record_path(self.folder, task.index), record.to_json(), flush="none")
        return record


def record_path(folder: Path, index: int) -> Path:
    """Return the path of a task's record."""
    return folder / "work" / f"part-{index:05d}.json"
