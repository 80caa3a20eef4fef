"""Types and packings of tables that other programs write."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import ReadOptions
from tests.io.formats.reading import read, texts

WORDS = ["A first text of words.", "Ein zweiter Text mit Wörtern.", None]
BYTES = [None if word is None else word.encode() for word in WORDS]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(WORDS).dictionary_encode(),
        pa.array(WORDS, pa.large_string()).dictionary_encode(),
        pa.array(BYTES, pa.binary()),
        pa.array(BYTES, pa.large_binary()),
        pa.array(BYTES, pa.binary()).dictionary_encode(),
    ],
    ids=lambda column: str(column.type)[:40],
)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_dictionary_and_binary_texts(column: pa.Array, suffix: str, tmp_path: Path) -> None:
    """As pandas and polars write categories, and Spark and Impala write texts."""
    table, path = pa.table({"id": ["a", "b", "c"], "text": column, "kind": column}), tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        papq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    found = read(path)
    assert found.documents["text"].to_pylist() == WORDS[:2]
    assert [(bad.position, bad.reason) for bad in found.unreadable] == [("row 2", "text is null")]


def test_bytes_that_are_no_text_are_quarantined(tmp_path: Path) -> None:
    papq.write_table(pa.table({"text": pa.array([b"ok", b"\xff\xfe\xfa", None])}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert found.documents["text"].to_pylist() == ["ok"]
    assert [(bad.position, bad.reason) for bad in found.unreadable] == [
        ("row 1", "not UTF-8"),
        ("row 2", "text is null"),
    ]


def test_a_text_inside_a_struct(tmp_path: Path) -> None:
    rows = [{"text": "One.", "n": 1}, {"text": "Two.", "n": 2}, None]
    papq.write_table(pa.table({"content": rows, "other": ["x", "y", "z"]}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", ReadOptions(text_column="content.text", id_column="content.n"))
    assert found.documents["text"].to_pylist() == ["One.", "Two."]
    assert found.documents["id"].to_pylist() == ["1", "2"]
    with pytest.raises(DataError, match=r"no column 'content.body'; it has: content, other"):
        read(tmp_path / "a.parquet", ReadOptions(text_column="content.body"))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_parquet_that_is_compressed_once_more(suffix: str, tmp_path: Path) -> None:
    papq.write_table(pa.table({"text": [f"Text {i}." for i in range(9)]}), tmp_path / "a.parquet", row_group_size=2)
    data = (tmp_path / "a.parquet").read_bytes()
    packed = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": lambda d: pa.compress(d, "zstd", asbytes=True)}[
        suffix
    ]
    (tmp_path / f"b.parquet{suffix}").write_bytes(packed(data))
    assert texts(tmp_path / f"b.parquet{suffix}") == [f"Text {i}." for i in range(9)]
