"""Blocks of documents from standard input: an Arrow stream, or JSON lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from gptctl.io.dataset import stream
from gptctl.io.formats import jsonl
from gptctl.io.input.blocks import Block, ReadOptions
from gptctl.io.input.bounded_lines import line_groups

BLOCK_BYTES = 8 * 2**20
JSON_SPACE = b"\xef\xbb\xbf \t\r\n"  # a byte order mark, and white space


def read_stdin_blocks(options: ReadOptions) -> Iterator[Block]:
    """Yield one block for each shard of a gptctl producer, or about 8 MiB at a time of anything else."""
    source = stream.standard_input()
    if isinstance(source, io.BufferedReader) and source.peek(1).lstrip(JSON_SPACE)[:1] == b"{":
        yield from json_blocks(source, options)
        return
    pending: list[pa.RecordBatch] = []
    pending_shard: int | None = None
    first_row = 0
    for shard, batch in stream.read(source):
        is_full = sum(b.nbytes for b in pending) >= BLOCK_BYTES if shard is None else shard != pending_shard
        if pending and is_full:
            yield pack(pending, first_row)
            first_row += sum(len(b) for b in pending)
            pending = []
        pending_shard = shard
        pending.append(batch)
    if pending:
        yield pack(pending, first_row)


def json_blocks(source: IO[bytes], options: ReadOptions) -> Iterator[Block]:
    """Yield the documents of JSON lines."""
    for offset, data in line_groups(source, BLOCK_BYTES, options.max_doc_bytes):
        table, unreadable, *_ = jsonl.read_block(Block("jsonl", "-", start=offset, size=len(data), data=data), options)
        yield Block("documents", "-", size=table.nbytes, data=stream.to_bytes(table), unreadable=tuple(unreadable))


def pack(batches: list[pa.RecordBatch], first_row: int) -> Block:
    """Return record batches as one block."""
    table = pa.Table.from_batches(batches)
    return Block("stream", "-", start=first_row, size=table.nbytes, data=stream.to_bytes(table))
