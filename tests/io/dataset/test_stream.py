"""The doors of a pipe: what is refused before anything is read or written, and what does not fit the first shard."""

from __future__ import annotations

import io
import sys

import pyarrow as pa
import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.io.dataset import stream
from gptctl.io.dataset.schema import with_kind


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(UsageError, match="standard input is a terminal"):
        stream.standard_input()
    with pytest.raises(UsageError, match="would write Arrow to the terminal"):
        stream.standard_output()


def written(*tables: pa.Table) -> bytes:
    sink = io.BytesIO()
    writer = stream.StreamWriter(sink)
    for number, table in enumerate(tables):
        writer.write(number, table)
    writer.close()
    return sink.getvalue()


def test_another_kind_and_another_count() -> None:
    table = pa.table({"id": ["a"], "n": [1]})
    tokens = table.replace_schema_metadata(with_kind(table.schema, "tokens").metadata)
    with pytest.raises(DataError, match="holds tokens, not documents"):
        list(stream.read(io.BytesIO(written(tokens))))
    sink = io.BytesIO()
    writer = stream.StreamWriter(sink)
    writer.write(0, table)
    writer.rows += 1
    writer.close()
    with pytest.raises(DataError, match="stream has 1 rows, its end mark says 2"):
        list(stream.read(io.BytesIO(sink.getvalue())))


def test_columns_that_fit_and_that_do_not() -> None:
    first = pa.table({"id": ["a"], "n": pa.array([1], pa.int64())})
    narrow = pa.table({"n": pa.array([2], pa.int8()), "id": ["b"]})
    batches = [batch.to_pylist() for _, batch in stream.read(io.BytesIO(written(first, narrow)))]
    assert batches == [[{"id": "a", "n": 1}], [{"id": "b", "n": 2}]]
    for other in ({"id": ["b"], "m": [1]}, {"id": ["b"], "n": [["x"]]}):
        with pytest.raises(DataError):
            written(first, pa.table(other))
    assert list(stream.read(io.BytesIO(written()))) == []
