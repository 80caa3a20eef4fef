"""Documents that several passes read, kept as Arrow after the first: parsing again costs as much as all hashing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc

from gptctl.core import atomic
from gptctl.io.input.read_task import read_task
from gptctl.io.input.blocks import ReadOptions, ShardTask, UnreadableRecord

BAD = b"gptctl.unreadable"


@dataclass(frozen=True)
class DocumentCache:
    """A folder of tasks' documents, inside jobs.scratch_folder; without a folder nothing is kept.

    `first` is added to a task's number: that of the first task among all that are kept.
    """

    folder: Path | None = None
    first: int = 0

    def after(self, first: int) -> DocumentCache:
        """Return the same folder for tasks that are numbered from 0 but stand behind others."""
        return replace(self, first=first)

    def path(self, task: ShardTask) -> Path | None:
        """Say where a task's documents are kept."""
        return self.folder / f"{self.first + task.index:05d}.arrow" if self.folder else None

    def keep(self, task: ShardTask, table: pa.Table, unreadable: list[UnreadableRecord]) -> None:
        """Write what `read_task` gave."""
        path = self.path(task)
        if path is None:
            return
        noted = json.dumps([item.to_json() for item in unreadable]).encode()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), BAD: noted})
        sink = pa.BufferOutputStream()
        with ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        atomic.write_bytes(path, sink.getvalue(), flush="none")

    def read(self, task: ShardTask, options: ReadOptions) -> tuple[pa.Table, list[UnreadableRecord]]:
        """Return what `read_task` gives, mapped into memory where it was kept."""
        path = self.path(task)
        if path is None or not path.exists():
            return read_task(task, options)
        with pa.memory_map(str(path)) as source, ipc.open_file(source) as reader:
            table = reader.read_all()
        metadata = dict(table.schema.metadata)
        unreadable = [UnreadableRecord.from_json(item) for item in json.loads(metadata.pop(BAD))]
        return table.replace_schema_metadata(metadata or None), unreadable
