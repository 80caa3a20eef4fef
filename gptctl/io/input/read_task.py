"""Read the documents of a shard task, in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from gptctl.io import formats
from gptctl.io.dataset import manifest, shards, stream
from gptctl.io.dataset.manifest import Shard
from gptctl.io.dataset.schema import concat
from gptctl.io.input.blocks import Block, Encodings, ReadOptions, ReadResult, ShardTask, UnreadableRecord
from gptctl.io.input.documents_from_table import documents_from_table

GROUP_BYTES = 2**20


def read_task(task: ShardTask, options: ReadOptions) -> ReadResult:
    """Read all blocks of a task. Raises DataError (3) if a whole file is unreadable."""
    groups = list(read_in_groups(task, options))
    unreadable = [record for group in groups for record in group.unreadable]
    encodings = Encodings()
    for group in groups:
        encodings.update(group.encodings)
    return ReadResult(concat([group.documents for group in groups]), unreadable, encodings)


def read_in_groups(task: ShardTask, options: ReadOptions) -> Iterator[ReadResult]:
    """Read a task about 1 MiB at a time, for stages that need not hold all of it at once."""
    tables: list[pa.Table] = []
    unreadable: list[UnreadableRecord] = []
    encodings = Encodings()
    size = 0
    if task.usual_columns:
        options = replace(options, usual_columns=True)
    for block in task.blocks:
        if tables and size + block.size > GROUP_BYTES:
            yield ReadResult(concat(tables), unreadable, encodings)
            tables, unreadable, encodings, size = [], [], Encodings(), 0
        found = read_block(block, options)
        tables.append(found.documents)
        unreadable += found.unreadable
        encodings.update(found.encodings)
        size += block.size
    if tables:
        yield ReadResult(concat(tables), unreadable, encodings)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Read one block: a shard of a dataset, a part of a stream, or a piece of a file in any input format."""
    if block.format == "shard":
        table = shards.table_from(manifest.read_shard(block.path, Shard(block.name, 0, block.size, block.checksum)))
        has_default_names = (options.text_column, options.id_column) == ("text", "id") and not options.whole_records
        return ReadResult(table, []) if has_default_names else documents_from_table(table, 0, block.name, options)
    if block.format in ("stream", "documents"):
        table = stream.from_bytes(block.data or Path(block.path).read_bytes())
        if block.format == "documents":
            return ReadResult(table, list(block.unreadable), Encodings(dict(block.encodings)))
        found = documents_from_table(table, block.start, "-", options)
        return ReadResult(found.documents, [*block.unreadable, *found.unreadable])
    return formats.load(block.format).read_block(block, options)
