"""Blocks of documents from an Arrow stream on standard input."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from gptctl.io.dataset import stream
from gptctl.io.input.blocks import Block

BLOCK_BYTES = 8 * 2**20


def read_stdin_blocks() -> Iterator[Block]:
    """Yield one block for each shard of a gptctl producer, or about 8 MiB at a time of another producer."""
    pending: list[pa.RecordBatch] = []
    pending_shard: int | None = None
    first_row = 0
    for shard, batch in stream.read(stream.standard_input()):
        is_full = sum(b.nbytes for b in pending) >= BLOCK_BYTES if shard is None else shard != pending_shard
        if pending and is_full:
            yield pack(pending, first_row)
            first_row += sum(len(b) for b in pending)
            pending = []
        pending_shard = shard
        pending.append(batch)
    if pending:
        yield pack(pending, first_row)


def pack(batches: list[pa.RecordBatch], first_row: int) -> Block:
    """Return record batches as one block."""
    table = pa.Table.from_batches(batches)
    return Block("stream", "-", start=first_row, size=table.nbytes, data=stream.to_bytes(table))
