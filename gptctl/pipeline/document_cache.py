"""DocumentCache: keeps parsed documents as Arrow files for later passes. Parsing them costs as much as all hashing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc

from gptctl.core import atomic
from gptctl.io.input.blocks import Encodings, ReadOptions, ReadResult, ShardTask, Skipped, UnreadableRecord
from gptctl.io.input.read_task import read_task

UNREADABLE, ENCODINGS, SKIPPED = b"gptctl.unreadable", b"gptctl.encodings", b"gptctl.skipped"


@dataclass(frozen=True)
class DocumentCache:
    """A folder of the documents of tasks, inside a scratch folder. Without a folder nothing is cached.

    `first` is added to a task's index to give its number among all cached tasks.
    """

    folder: Path | None = None
    first: int = 0

    def after(self, first: int) -> DocumentCache:
        """Return the same cache for tasks that are numbered from 0 but come after `first` others."""
        return replace(self, first=first)

    def path(self, task: ShardTask) -> Path | None:
        """Return the path of a task's documents, or None if nothing is cached."""
        return self.folder / f"{self.first + task.index:05d}.arrow" if self.folder else None

    def write(self, task: ShardTask, found: ReadResult) -> None:
        """Cache what `read_task` returned."""
        path = self.path(task)
        if path is None:
            return
        records = json.dumps([record.to_json() for record in found.unreadable]).encode()
        counted = {ENCODINGS: json.dumps(found.encodings).encode(), SKIPPED: json.dumps(found.skipped).encode()}
        notes = {UNREADABLE: records, **counted}
        documents = found.documents.replace_schema_metadata({**(found.documents.schema.metadata or {}), **notes})
        sink = pa.BufferOutputStream()
        with ipc.new_file(sink, documents.schema) as writer:
            writer.write_table(documents)
        atomic.write_bytes(path, sink.getvalue(), flush="none")

    def read(self, task: ShardTask, options: ReadOptions) -> ReadResult:
        """Return a task's documents, memory-mapped if they are cached, else read from the input."""
        path = self.path(task)
        if path is None or not path.exists():
            return read_task(task, options)
        with pa.memory_map(str(path)) as source, ipc.open_file(source) as reader:
            documents = reader.read_all()
        metadata = dict(documents.schema.metadata)
        unreadable = [UnreadableRecord.from_json(record) for record in json.loads(metadata.pop(UNREADABLE))]
        encodings = Encodings(json.loads(metadata.pop(ENCODINGS)))
        skipped = Skipped(json.loads(metadata.pop(SKIPPED)))
        return ReadResult(documents.replace_schema_metadata(metadata or None), unreadable, encodings, skipped)
