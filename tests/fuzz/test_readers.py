"""Whatever bytes an input holds: its documents as the contract has them, or an error of one line; never a crash."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as papq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.io.dataset import shards, stream
from gptctl.io.dataset.schema import concat
from gptctl.io.dataset.shard_format import read_table
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from tests.conftest import documents
from tests.fuzz.child import Child, check, outcome
from tests.fuzz.mutate import mutated
from tests.fuzz.profile import examples

OPTIONS = ReadOptions(max_doc_bytes=2**16)
ROWS: list[dict[str, Any]] = [
    row | {"n": number, "tags": ["a", "é"], "meta": {"k": number / 3}, "label": None if number else "x"}
    for number, row in enumerate(documents(4, words=12))
]
TABLE = pa.Table.from_pylist(ROWS)
DICTIONARY = TABLE.append_column("kind", TABLE["id"].dictionary_encode())
PAGE = b"<!doctype html><html><head><meta charset=utf-8><title>T</title></head><body><p>Caf\xc3\xa9 au lait</p></body></html>"


def arrow(table: pa.Table, make: Callable[..., Any] = ipc.new_file, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with make(sink, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def parquet(**how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    papq.write_table(TABLE, sink, row_group_size=2, **how)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def piped() -> bytes:
    sink = io.BytesIO()
    writer = stream.StreamWriter(sink)
    for number in range(2):
        writer.write(number, TABLE.slice(2 * number, 2))
    writer.close()
    return sink.getvalue()


def warc() -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + PAGE
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-00000000000{n}>\r\n"
        "WARC-Target-URI: http://example.org/{n}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        "Content-Type: application/http; msgtype=response\r\nContent-Length: {size}\r\n\r\n"
    )
    return b"".join(head.format(n=n, size=len(http)).encode() + http + b"\r\n\r\n" for n in range(2))


def lz4(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


JSONL = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)
CSV = b"id,text,n\n" + b"".join(f'{row["id"]},"{row["text"]}",{row["n"]}\n'.encode() for row in ROWS)
VALID = {
    "a.jsonl": JSONL,
    "a.json": json.dumps(ROWS).encode(),
    "a.csv": CSV,
    "a.tsv": CSV.replace(b",", b"\t"),
    "a.txt": ROWS[0]["text"].encode(),
    "a.html": PAGE,
    "plain.arrow": arrow(DICTIONARY),
    "lz4.arrow": arrow(TABLE, compression="lz4"),
    "zstd.feather": arrow(TABLE, compression="zstd"),
    "a.arrows": arrow(DICTIONARY, ipc.new_stream),
    "snappy.parquet": parquet(),
    "plain.parquet": parquet(compression="none", use_dictionary=False, data_page_version="2.0"),
    "a.warc": warc(),
}
COMPRESSED = {
    "a.jsonl.gz": gzip.compress(JSONL[:300], mtime=0) + gzip.compress(JSONL[300:], mtime=0),
    "a.jsonl.zst": pa.compress(JSONL, "zstd", asbytes=True),
    "a.json.bz2": bz2.compress(json.dumps(ROWS).encode()),
    "a.csv.lz4": lz4(CSV),
    "a.txt.gz": gzip.compress(ROWS[0]["text"].encode(), mtime=0),
    "a.arrow.zst": pa.compress(arrow(TABLE), "zstd", asbytes=True),
    "a.warc.gz": b"".join(gzip.compress(part, mtime=0) for part in (warc()[:637], warc()[637:])),
}
WHOLE = VALID | COMPRESSED


def written(name: str, data: bytes) -> str:
    """Write a file; give its name."""
    Path(name).write_bytes(data)
    return name


def read(argument: str) -> int:
    """Read an input as a stage does and hold its documents to the contract of schema.py; give their number."""
    tables = []
    for task in Inputs((argument,), OPTIONS).tasks():
        table, bad, *_ = read_task(task, OPTIONS)
        table.validate(full=True)
        assert table.schema.names[:3] == ["id", "text", "source"], table.schema.names
        assert [table.schema.field(i).type for i in range(3)] == [pa.string(), pa.large_string(), pa.string()]
        assert not table["text"].null_count and not table["id"].null_count and not table["source"].null_count
        assert all(len(text.encode()) <= OPTIONS.max_doc_bytes for text in table["text"].to_pylist())
        for item in bad:
            json.dumps(item.to_json()).encode()
            assert item.reason and item.source
        tables.append(table)
    if tables:  # what a stage does next: join, write, read again
        whole = concat(tables)
        whole.filter(pa.array([row % 2 == 0 for row in range(len(whole))], pa.bool_()))
        shards.write_shard(Path("out"), "part.arrow", whole)
        assert len(read_table(Path("out/part.arrow").read_bytes(), "part.arrow")) == len(whole)
    return sum(map(len, tables))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", WHOLE)
def test_whole(name: str) -> None:
    """The files that the others damage are good."""
    Path(name).write_bytes(WHOLE[name])
    expected = 1 if name.startswith(("a.txt", "a.html")) else 2 if "warc" in name else 4
    assert outcome(lambda: read(name)) == {"value": expected}


@pytest.mark.parametrize("name", WHOLE)
def test_damaged(name: str) -> None:
    with Child(lambda data: read(written(name, data))) as child:

        @given(mutated(WHOLE[name]))
        @examples(30)
        def look(data: bytes) -> None:
            check(child(data))

        look()


@pytest.mark.parametrize("suffix", ["arrow", "arrows", "parquet", "warc", "jsonl.zst", "csv.bz2", "warc.gz"])
def test_any_bytes(suffix: str) -> None:
    """Formats that tests/io does not try this with; behind the magic number of the format, too."""
    magic = {"arrow": b"ARROW1\0\0", "parquet": b"PAR1", "warc": b"WARC/1.0\r\n", "zst": b"\x28\xb5\x2f\xfd"}

    with Child(lambda data: read(written(f"x.{suffix}", data))) as child:

        @given(st.binary(max_size=200), st.booleans())
        @examples(20)
        def look(data: bytes, behind: bool) -> None:
            check(child((magic.get(suffix.split(".")[-1], b"BZh9") if behind else b"") + data))

        look()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "id", "a", "é", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)
records = st.dictionaries(
    st.sampled_from(["text", "id", "source", "a", "", "text_"]), json_values | st.text("ab"), max_size=5
)


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_json_of_any_shape(suffix: str) -> None:
    """Values of any type in any column, also of names and types that no two records agree on."""

    with Child(lambda data: read(written(f"a.{suffix}", data))) as child:

        @given(st.lists(records | json_values, max_size=6))
        @examples(80)
        def look(rows: list[Any]) -> None:
            lines = "\n".join(json.dumps(row) for row in rows) if suffix == "jsonl" else json.dumps(rows)
            check(child(lines.encode()))

        look()


def test_a_pipe() -> None:
    """What comes down standard input: whole with its end mark, or refused; a part of it never passes for all."""

    whole = piped()

    def run(data: bytes) -> int:
        sys.stdin = io.TextIOWrapper(io.BytesIO(data))
        return read("-")

    with Child(run) as child:
        assert child(whole) == {"value": 4}

        @given(mutated(whole))
        @examples(60)
        def look(data: bytes) -> None:
            check(child(data))

        @given(st.integers(0, len(whole) - 1))
        @examples(40)
        def cut(length: int) -> None:
            found = child(whole[:length])
            check(found)
            assert "code" in found or length >= len(whole) - 8  # Arrow's own end, 8 bytes, may be absent

        look()
        cut()


@pytest.mark.parametrize("codec", ["gzip", "zstd", "bz2", "lz4"])
def test_a_bomb(codec: str) -> None:
    """64 MiB of one line or document from a few KiB: quarantined, in bounded memory."""
    suffix = {"gzip": "gz", "zstd": "zst"}.get(codec, codec)
    for name, head in ((f"a.jsonl.{suffix}", b'{"text": "'), (f"a.txt.{suffix}", b"")):
        with pa.CompressedOutputStream(name, codec) as out:
            out.write(head)
            for _ in range(64):
                out.write(b"x" * 2**20)
        assert outcome(lambda name=name: read(name)) == {"value": 0}


def test_a_parquet_that_claims_more_rows_than_it_has() -> None:
    """Thrift's row counts are not believed."""
    data = parquet()
    size = struct.unpack("<i", data[-8:-4])[0]
    with Child(lambda changed: read(written("a.parquet", changed))) as child:
        for place in range(len(data) - 8 - size, len(data) - 8, 7):
            check(child(data[:place] + b"\xfe\xff\x7f" + data[place + 3 :]))


COLUMNS = [
    pa.array(["a", None], pa.string()),
    pa.array(["a", "b"], pa.large_string()),
    pa.array(["a", "b"], pa.string_view()),
    pa.array([b"a", b"\xff"], pa.binary()),
    pa.array([b"a", b"b"], pa.binary(1)),
    pa.array([1, None], pa.int8()),
    pa.array([1.5, float("nan")]),
    pa.array([1.5, 2], pa.float16()),
    pa.array([True, False]),
    pa.nulls(2),
    pa.array([["a"], []]),
    pa.array([[None], []]),
    pa.array([{"k": 1}, None]),
    pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2)),
    pa.array(["a", "b"]).dictionary_encode(),
    pa.array([0, 1], pa.timestamp("us", "Europe/London")),
    pa.array([0, 1], pa.date32()),
    pa.array([0, 1], pa.duration("s")),
    pa.array([1, 2], pa.decimal128(5, 2)),
    pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"])),
    pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array(["a", "b"]), pa.array([1, 2])]),
]


@pytest.mark.parametrize("suffix", ["arrow", "arrows", "parquet"])
def test_columns_of_any_type(suffix: str) -> None:
    """Under any name, also one that stands twice."""

    def write_and_read(data: bytes) -> int:
        chosen = json.loads(data)
        table = pa.Table.from_arrays([COLUMNS[which] for _, which in chosen], names=[name for name, _ in chosen])
        if suffix == "parquet":
            try:
                papq.write_table(table, "c.parquet")
            except (pa.ArrowException, ValueError):
                return 0  # Parquet has no such type
        else:
            Path(f"c.{suffix}").write_bytes(arrow(table, ipc.new_file if suffix == "arrow" else ipc.new_stream))
        return read(f"c.{suffix}")

    names = st.sampled_from(["text", "id", "source", "text_", "a", ""])
    with Child(write_and_read) as child:

        @given(st.lists(st.tuples(names, st.integers(0, len(COLUMNS) - 1)), max_size=4), st.integers(0, 2))
        @examples(150)
        def look(chosen: list[tuple[str, int]], text: int) -> None:
            check(child(json.dumps([("text", text), *chosen]).encode()))

        look()
