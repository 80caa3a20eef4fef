"""Streams that end before their end, and signals."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from gptctl.io.dataset.stream import StreamWriter
from tests.conftest import Ran, documents, write_jsonl
from tests.faults.harness import ALONE, assert_honest, assert_whole, expect

Gptctl = Callable[..., Ran]


def whole_stream() -> tuple[bytes, int]:
    """Return a stream of three shards of 50 documents, and where its end mark begins."""
    sink = io.BytesIO()
    writer = StreamWriter(sink)
    for shard in range(3):
        writer.write(shard, pa.Table.from_pylist([row | {"source": "a"} for row in documents(150)[shard::3]]))
    marked = sink.tell()
    writer.close()
    return sink.getvalue(), marked


def test_a_stream_that_ends_early_is_refused(tmp_path: Path, gptctl: Gptctl) -> None:
    """Cut between two batches, where Arrow sees a complete stream; cut anywhere; empty; something else."""
    data, marked = whole_stream()
    with pa.ipc.open_stream(data[:marked]) as reader:
        assert len(reader.read_all()) == 150
    for cut, words in (
        (data[:marked], "stream ended without end mark after 150 rows"),
        (data[: marked * 4 // 5], "after 100 rows"),
        (data[:500], "standard input is not an Arrow IPC stream"),
        (b"", "standard input is empty"),
        (b"text, not Arrow\n", "standard input is not an Arrow IPC stream"),
    ):
        expect(gptctl("dedup", "-", "-o", "unique", *ALONE, stdin=cut), 3, words)
        assert_honest(tmp_path / "unique")
    done = gptctl("dedup", "-", "-o", "unique", *ALONE, "--json", stdin=data)
    assert (done.code, done.json["counts"]["in"]) == (0, 150), done.err
    assert_whole(tmp_path / "unique")


@pytest.mark.parametrize("stage", ["clean", "dedup", "tokenize"])
def test_json_lines_in_a_pipe(stage: str, tmp_path: Path, gptctl: Gptctl) -> None:
    """They are read as those of a file, with the same options, limits and quarantine."""
    rows = [{"body": document["text"], "id": document["id"]} for document in documents(30)]
    data = write_jsonl(tmp_path / "in.jsonl", rows).read_bytes() + b"{broken\n"
    (tmp_path / "in.jsonl").write_bytes(data)
    more = (*ALONE, "--text-column", "body", *(("--vocab-size", "300") if stage == "tokenize" else ()))
    for source, out in (("-", "piped"), ("in.jsonl", "read")):
        done = gptctl(stage, source, "-o", out, *more, stdin=data)
        assert done.code == 0 and "1 of 31 records are unreadable" in done.err, done.err
        assert_whole(tmp_path / out)
    piped, read = (json.loads((tmp_path / out / "manifest.json").read_text())["counts"] for out in ("piped", "read"))
    assert piped == read
    expect(gptctl(stage, "-", "-o", "wrong", *more[: len(ALONE)], stdin=data), 3, "it has: body, id", "--text-column")
