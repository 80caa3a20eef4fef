"""Hostile files take time in proportion to their size: calls are counted, or what a library is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from gptctl.io.dataset.schema import concat
from gptctl.io.formats import parquet
from gptctl.io.input.inputs import Inputs
from tests.growth import assert_linear, count_calls
from tests.io.formats.reading import OPTIONS, read

N = 60


def test_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The footer, whose size is that of all row groups, is parsed once and not for each of them."""
    opened: list[int] = []

    def open_file(*args: Any, **kwargs: Any) -> papq.ParquetFile:
        file = original(*args, **kwargs)
        opened.append(file.metadata.num_row_groups)
        return file

    original = papq.ParquetFile
    monkeypatch.setattr(parquet.papq, "ParquetFile", open_file)
    work = {}
    for n in (N, 4 * N):
        path = tmp_path / f"{n}.parquet"
        papq.write_table(pa.table({"text": [f"number {i}" for i in range(n)]}), path, row_group_size=1)
        opened.clear()
        found: list[Any] = []
        calls = count_calls(lambda path=path, found=found: found.append(read(path)))
        work[n] = (sum(opened), calls)
        assert found[0].documents["id"].to_pylist() == [f"{n}.parquet:{i}" for i in range(n)]
    assert_linear(work[N][0], work[4 * N][0])
    assert_linear(work[N][1], work[4 * N][1])


def test_a_parquet_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    for text in ("one", "two and more"):
        papq.write_table(pa.table({"text": [text]}), tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet").documents["text"].to_pylist() == [text]


def csv(path: Path, n: int) -> None:
    path.write_text("id,text," + ",".join(f"c{i}" for i in range(n)) + "\n" + '1,"Some words.",' + ",".join("1" * n))


def jsonl(path: Path, n: int) -> None:
    path.write_text("".join(json.dumps({"text": f"Number {i}.", f"k{i}": i}) + "\n" for i in range(n)))


@pytest.mark.parametrize("write", [csv, jsonl])
def test_columns(write: Any, tmp_path: Path) -> None:
    """Also in JSON, where each record has a key of its own."""
    work = {}
    for n in (300, 1200):
        write(tmp_path / f"{n}.{write.__name__}", n)
        work[n] = count_calls(lambda n=n: read(tmp_path / f"{n}.{write.__name__}"))
    assert_linear(work[300], work[1200])


def test_sparse_keys_have_the_values_of_dense_ones(tmp_path: Path) -> None:
    """With many keys, columns are made from the values that there are; the result is the same."""
    rows = [
        {"text": "t", "id": str(i), f"k{i}": i, f"s{i}": "x", f"l{i % 150}": [i] if i % 3 else None, "f": i / 2}
        for i in range(200)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = read(tmp_path / "a.jsonl").documents
    assert len(table.column_names) > 500
    for name in ("k7", "s150", "l3", "l30", "f"):
        assert table[name].combine_chunks().equals(pa.array([row.get(name) for row in rows]))


def test_files_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = {}
    for n in (N, 4 * N):
        for i in range(n):
            (tmp_path / str(n) / str(i)).mkdir(parents=True)
            (tmp_path / str(n) / str(i) / "index.txt").write_text(f"Page {i}.")
        inputs: list[Inputs] = []
        calls = count_calls(lambda n=n, inputs=inputs: inputs.append(Inputs((f"{tmp_path}/{n}/*/index.txt",), OPTIONS)))
        work[n] = calls
        assert {file.name for file in inputs[0].files} == {f"{i}/index.txt" for i in range(n)}
    assert_linear(work[N], work[4 * N])


def test_equal_names_are_numbered_in_linear_time(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Some words.")
    work = {}
    for n in (N, 4 * N):
        inputs: list[Inputs] = []
        arguments = tuple(f"{tmp_path}/{'./' * (i % 2)}a.txt" for i in range(n))
        work[n] = count_calls(lambda arguments=arguments, inputs=inputs: inputs.append(Inputs(arguments, OPTIONS)))
        assert len({file.name for file in inputs[0].files}) == n
    assert_linear(work[N], work[4 * N])


def test_joining_tables_with_many_columns() -> None:
    work = {}
    for n in (300, 1200):
        tables = [pa.table({f"c{i}": [1] for i in range(n)} | {f"d{k}": ["x"]}) for k in range(3)]
        work[n] = count_calls(lambda tables=tables: concat(tables))
    assert_linear(work[300], work[1200])
