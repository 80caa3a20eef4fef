"""Read the documents of a shard task, in a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from gptctl.io import formats
from gptctl.io.dataset import shards, stream
from gptctl.io.dataset.manifest import Shard
from gptctl.io.dataset.schema import concat
from gptctl.io.input.blocks import Block, Encodings, ReadOptions, ReadResult, ShardTask, Skipped
from gptctl.io.input.documents_from_table import documents_from_table

GROUP_BYTES = 2**20
NO_DOCUMENTS = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("source", pa.string())])


def read_task(task: ShardTask, options: ReadOptions) -> ReadResult:
    """Read all blocks of a task. Raises DataError (3) if a whole file is unreadable."""
    return join(list(read_in_groups(task, options)))


def join(results: Sequence[ReadResult]) -> ReadResult:
    """Return what several results hold together."""
    unreadable = [record for result in results for record in result.unreadable]
    encodings, skipped = Encodings(), Skipped()
    for result in results:
        encodings.update(result.encodings)
        skipped.update(result.skipped)
    return ReadResult(concat([result.documents for result in results]), unreadable, encodings, skipped)


def read_in_groups(task: ShardTask, options: ReadOptions) -> Iterator[ReadResult]:
    """Read a task about 1 MiB at a time, for stages that need not hold all of it at once.

    Of a Parquet shard, which is a task of its own, each row group is read by itself.
    """
    pending: list[ReadResult] = []
    size = 0
    if task.usual_columns:
        options = replace(options, usual_columns=True)
    if len(task.blocks) == 1 and task.blocks[0].format == "shard":
        for found in read_shard(task.blocks[0], options):
            yield join([found])
        return
    for block in task.blocks:
        if pending and size + block.size > GROUP_BYTES:
            yield join(pending)
            pending, size = [], 0
        pending.append(read_block(block, options))
        size += block.size
    if pending:
        yield join(pending)


def read_shard(block: Block, options: ReadOptions) -> Iterator[ReadResult]:
    """Read a shard of a dataset. Raises DataError (3) if it is missing or damaged."""
    has_default_names = (options.text_column, options.id_column) == ("text", "id") and not options.whole_records
    first_row = 0
    for table in shards.read_parts(block.path, Shard(block.name, 0, block.size, block.checksum)):
        if has_default_names:
            yield ReadResult(table, [])
        else:
            yield documents_from_table(table, first_row, block.name, options)
        first_row += len(table)


def read_block(block: Block, options: ReadOptions) -> ReadResult:
    """Read one block: a shard of a dataset, a part of a stream, or a piece of a file in any input format."""
    if block.format == "shard":
        return join(list(read_shard(block, options)))
    if block.format in ("stream", "documents"):
        table = stream.from_bytes(block.data or Path(block.path).read_bytes())
        if block.format == "documents":
            encodings, skipped = Encodings(dict(block.encodings)), Skipped(dict(block.skipped))
            return ReadResult(table, list(block.unreadable), encodings, skipped)
        found = documents_from_table(table, block.start, "-", options)
        return ReadResult(found.documents, [*block.unreadable, *found.unreadable])
    if block.format == "unreadable":
        return ReadResult(NO_DOCUMENTS.empty_table(), list(block.unreadable))
    return formats.load(block.format).read_block(block, options)
