"""Shards: equal tables give equal files, whatever was beside them in memory."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.io.dataset import shard_format, stream
from gptctl.io.dataset.shard_format import ARROW, MAPPED, ShardFormat, read_table
from gptctl.io.dataset.shards import read_parts, write_shard

rows = st.fixed_dictionaries(
    {
        "id": st.text(max_size=9),
        "text": st.one_of(st.none(), st.text(max_size=80)),
        "tokens": st.lists(st.integers(0, 9), max_size=9),
    }
)
PARQUET, PLAIN_PARQUET = ShardFormat("parquet", "zstd"), ShardFormat("parquet", None)
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("tokens", pa.large_list(pa.uint16()))])


def table(values: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(values, SCHEMA)


@given(st.lists(rows, max_size=6), st.integers(0, 4), st.integers(0, 6))
@settings(deadline=None)
def test_slices_chunks_and_copies(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], first: int, length: int
) -> None:
    """A table made afresh, a part of a larger one, in pieces, and one that came through a pipe."""
    folder = tmp_path_factory.mktemp("shards")
    expected = table(values[first : first + length])
    part = table(values).slice(first, length)
    pieces = pa.concat_tables([part.slice(0, 1), part.slice(1)])
    piped = stream.from_bytes(stream.to_bytes(part))
    for storage in (MAPPED, PLAIN_PARQUET):
        forms = (expected, part, pieces, piped)
        made = [write_shard(folder, f"{n}{storage.suffix}", one, storage, "none") for n, one in enumerate(forms)]
        assert len({shard.xxh3_128 for shard in made}) == 1
        assert len({shard.bytes for shard in made}) == 1
        found = read_table((folder / made[1].path).read_bytes(), made[1].path)
        assert found.to_pylist() == values[first : first + length]
        assert found.schema == SCHEMA


@pytest.mark.parametrize("storage", [MAPPED, PLAIN_PARQUET])
def test_nothing_of_what_was_cut_off(storage: ShardFormat, tmp_path: Path) -> None:
    """A dropped row's text is not in the file."""
    write_shard(tmp_path, "a", table([{"text": "kept"}, {"text": "secret"}]).slice(0, 1), storage)
    data = (tmp_path / "a").read_bytes()
    assert b"kept" in data and b"secret" not in data


KINDS: dict[str, tuple[pa.Array, list[Any]]] = {
    "objects without keys": (pa.array([{}, None], pa.struct([])), ["{}", None]),
    "and inside lists": (pa.array([[{}], []], pa.list_(pa.struct([]))), ["[{}]", "[]"]),
    "and inside objects": (pa.array([{"a": {}}, None], pa.struct([("a", pa.struct([]))])), ['{"a":{}}', None]),
    "intervals": (
        pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
        ['"MonthDayNano(months=1, days=2, nanoseconds=3)"', None],
    ),
    "categories": (pa.array(["x", None]).dictionary_encode(), ["x", None]),
    "categories of numbers": (pa.array([5, None]).dictionary_encode(), [5, None]),
    "seconds": (pa.array([61, None], pa.time32("s")), [datetime.time(0, 1, 1), None]),
    "maps": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), [[("k", 1)], None]),
    "lists in lists": (pa.array([[["x"], []], None]), [[["x"], []], None]),
    "nothing": (pa.nulls(2), [None, None]),
    "lists of nothing": (pa.array([[None], []]), [[None], []]),
    "wide integers": (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
    "half floats": (pa.array([0.5, None], pa.float16()), [0.5, None]),
}


@pytest.mark.parametrize("name", KINDS)
def test_types(name: str, tmp_path: Path) -> None:
    """Parquet keeps every value, and its bytes are the same if the rows were read from an Arrow or a Parquet shard."""
    column, expected = KINDS[name]
    rows = pa.table({"id": ["a", "b"], "c": column}).replace_schema_metadata({"gptctl.kind": "documents"})
    found = []
    for storage in (ARROW, PARQUET):
        shard = write_shard(tmp_path, f"part{storage.suffix}", rows, storage)
        again = read_table((tmp_path / shard.path).read_bytes(), shard.path)
        assert again.schema.metadata == {b"gptctl.kind": b"documents"}
        found.append(write_shard(tmp_path, "again.parquet", again, PARQUET).xxh3_128)
    assert again["c"].to_pylist() == expected
    assert found == [shard.xxh3_128] * 2


def test_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large shard has several, and is read one at a time."""
    monkeypatch.setattr(shard_format, "ROW_GROUP_BYTES", 1000)
    rows = table([{"id": str(i), "text": "x" * 90, "tokens": [i]} for i in range(100)])
    shard = write_shard(tmp_path, "part.parquet", rows, PARQUET)
    sizes = [len(part) for part in read_parts(str(tmp_path), shard)]
    assert sum(sizes) == 100
    assert set(sizes[:-1]) == {10}
    assert (
        write_shard(tmp_path, "b.parquet", pa.concat_tables([rows[:7], rows[7:]]), PARQUET).xxh3_128 == shard.xxh3_128
    )
    empty = write_shard(tmp_path, "empty.parquet", rows[:0], PARQUET)
    assert [len(part) for part in read_parts(str(tmp_path), empty)] == [0]


@pytest.mark.parametrize("codec", ["zstd", "lz4", "snappy", "gzip", None])
def test_compression(codec: str | None, tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path, "part.parquet", table([{"id": "a", "text": "x" * 999}]), ShardFormat("parquet", codec)
    )
    found = papq.ParquetFile(tmp_path / shard.path).metadata.row_group(0).column(1).compression
    assert found == {None: "UNCOMPRESSED"}.get(codec, str(codec).upper())
