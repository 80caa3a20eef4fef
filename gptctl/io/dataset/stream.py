"""Documents in a pipe: an Arrow IPC stream whose last batch is an end mark.

If a producer is killed between two batches, Arrow reads its stream as complete. So the last batch is empty, and its
custom metadata contains the number of rows. A stream without it is an error. The metadata of every other batch contains
the producer's shard number, so that the consumer makes the same shards as it would from a folder.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc as ipc

from gptctl.core.errors import DataError, UsageError
from gptctl.io.dataset.schema import conform, kind_of
from gptctl.io.files import UNREADABLE

SHARD = b"gptctl.shard"
END = b"gptctl.end"
ENCODING = "encoding"  # the column that says which encoding was detected


def standard_input() -> IO[bytes]:
    """Return standard input for a stream. Raises UsageError (2) if it is a terminal."""
    if sys.stdin.isatty():
        raise UsageError(
            "INPUT is '-' but standard input is a terminal",
            "pipe the output of another stage: gptctl clean ... -o - | gptctl dedup -",
        )
    return sys.stdin.buffer


def standard_output() -> IO[bytes]:
    """Return standard output for a stream. Raises UsageError (2) if it is a terminal, which cannot show binary data."""
    if sys.stdout.isatty():
        raise UsageError(
            "-o - would write Arrow to the terminal", "pipe it into another stage, or name a folder with -o"
        )
    return sys.stdout.buffer


def read(source: IO[bytes], kind: str = "documents") -> Iterator[tuple[int | None, pa.RecordBatch]]:
    """Yield (shard number or None, batch). Raises DataError (3) if the stream is damaged or has no end mark."""
    rows = 0
    if isinstance(source, io.BufferedReader) and not source.peek(1):
        raise DataError("standard input is empty", "the command before it in the pipe has failed: see its error")
    try:
        with ipc.open_stream(source) as reader:
            found = kind_of(reader.schema)
            if found and found != kind:
                raise DataError(
                    f"standard input holds {found}, not {kind}", "check the order of the stages in the pipe"
                )
            while True:
                batch, metadata = reader.read_next_batch_with_custom_metadata()
                notes: dict[bytes, bytes] = dict(metadata or {})
                if END in notes:
                    if int(notes[END]) != rows:
                        raise DataError(
                            f"stream has {rows} rows, its end mark says {int(notes[END])}", "run the pipe again"
                        )
                    return
                batch.validate(full=True)
                rows += len(batch)
                yield (int(notes[SHARD]) if SHARD in notes else None), batch
    except StopIteration:
        pass
    except (*UNREADABLE, ValueError) as error:
        if rows == 0:
            raise DataError(
                f"standard input is not an Arrow IPC stream: {first_words(error)}",
                "pipe JSON lines into the command, or what gptctl STAGE ... -o - writes; name files of other formats",
            ) from error
        raise DataError(
            f"stream is damaged after {rows} rows: {first_words(error)}", "run the pipe again, with: set -o pipefail"
        ) from error
    raise DataError(
        f"stream ended without end mark after {rows} rows",
        "the producer was stopped; run the pipe again, with: set -o pipefail",
    )


class StreamWriter:
    """Writes tables to a pipe and, after the last one, the end mark. The first table sets the schema."""

    def __init__(self, sink: IO[bytes]) -> None:
        self.sink = sink
        self.rows = 0
        self.writer: Any = None
        self.schema: pa.Schema | None = None

    def write(self, shard: int, table: pa.Table) -> None:
        """Write the rows of one shard. Raises DataError (3) if its columns do not fit those of the first shard."""
        if self.writer is None:
            self.schema = table.schema
            self.writer = ipc.new_stream(self.sink, table.schema)
        elif not table.schema.equals(self.schema):
            table = self.fitted(shard, table)
        batches = table.combine_chunks().to_batches() or [empty(table.schema)]
        for batch in batches:
            self.writer.write_batch(batch, custom_metadata={SHARD: str(shard).encode()})
        self.rows += len(table)
        self.sink.flush()

    def fitted(self, shard: int, table: pa.Table) -> pa.Table:
        """Return a table with the stream's columns, which cannot be widened after the first shard was sent."""
        assert self.schema is not None
        if ENCODING in table.column_names and ENCODING not in self.schema.names:
            table = table.drop_columns([ENCODING])  # reading adds it to few shards; the summary counts the encodings
        extra = [name for name in table.column_names if name not in self.schema.names]
        try:
            if not extra:
                return conform(table, self.schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        raise DataError(
            f"the columns of shard {shard} do not fit the stream's{': ' + ', '.join(extra) if extra else ''}",
            "write to a folder with -o, where columns are unified at the end",
        )

    def close(self) -> None:
        """Write the end mark. It is not called after a failure, so that the reader sees a truncated stream."""
        if self.writer is None:
            self.schema = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("source", pa.string())])
            self.writer = ipc.new_stream(self.sink, self.schema)
        assert self.schema is not None
        self.writer.write_batch(empty(self.schema), custom_metadata={END: str(self.rows).encode()})
        self.writer.close()
        self.sink.flush()


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch without rows."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def to_bytes(table: pa.Table) -> bytes:
    """Return a table as an Arrow stream in memory, to be sent to another process."""
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def from_bytes(data: bytes) -> pa.Table:
    """Return the table that `to_bytes` encoded."""
    with ipc.open_stream(data) as reader:
        return reader.read_all()


def first_words(error: Exception) -> str:
    """Return the start of a library's message as one line."""
    return " ".join(str(error).split())[:120]
