"""Shards: equal tables give equal files, whatever was beside them in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.io.dataset import stream
from gptctl.io.dataset.shards import table_from, write_shard

rows = st.fixed_dictionaries(
    {
        "id": st.text(max_size=9),
        "text": st.one_of(st.none(), st.text(max_size=80)),
        "tokens": st.lists(st.integers(0, 9), max_size=9),
    }
)
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
    made = [write_shard(folder, str(number), one, None) for number, one in enumerate((expected, part, pieces, piped))]
    assert len({shard.xxh3_128 for shard in made}) == 1
    assert table_from((folder / "1").read_bytes()).to_pylist() == values[first : first + length]


def test_nothing_of_what_was_cut_off(tmp_path: Path) -> None:
    """A dropped row's text is not in the file."""
    write_shard(tmp_path, "a", table([{"text": "kept"}, {"text": "secret"}]).slice(0, 1), None)
    data = (tmp_path / "a").read_bytes()
    assert b"kept" in data and b"secret" not in data
