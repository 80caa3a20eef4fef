"""Predictions on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.io.dataset.schema import kind_of
from gptctl.io.input import predictions, sniff
from gptctl.io.input.blocks import ReadOptions
from tests.evals.command import write


def save(path: Path, table: pa.Table) -> str:
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return str(path)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"id": 1, "label": 1.0, "pred": "1", "probs": [0.5, 0.5]}], "predictions"),
        ([{"id": "a", "label": ["x", "y"], "pred": []}, {"id": "b", "label": [], "pred": None}], "predictions"),
        (
            [{"id": "a", "label": "one text", "pred": "t"}, {"id": "b", "label": ["two", "texts"], "pred": "t"}],
            "predictions",
        ),
        ([{"id": "a", "nats": 1.5, "bytes": 3, "tokens": 2}], "scores"),
        ([{"id": "a", "label": 1, "choices": ["x", "y"], "loglik": [-1.0, -2.0], "tokens": [1, 2]}], "choices"),
    ],
)
def test_arrow_keeps_rows_and_facts(rows: list[dict[str, Any]], kind: str, tmp_path: Path) -> None:
    table = predictions.to_table(rows, kind, {"rows": "any", "splits": {"é": 1}})
    assert kind_of(table.schema) == kind
    found = predictions.read_predictions(save(tmp_path / "p.arrow", table))
    assert found.facts == {"rows": "any", "splits": {"é": 1}}
    for row, before in zip(found.rows, rows, strict=True):
        for name, value in before.items():
            plain = value if not isinstance(value, str) or not isinstance(row[name], list) else [value]
            assert row[name] == plain or str(row[name]) in (str(plain), "1"), name


def test_ids_by_position_and_twice(tmp_path: Path) -> None:
    rows = [{"label": "a", "pred": "a"}] * 2
    assert [row["id"] for row in predictions.read_predictions(str(write(tmp_path / "p.jsonl", rows))).rows] == [0, 1]
    split = [{"id": 1, "split": name} for name in ("val", "test")]
    assert len(predictions.read_predictions(str(write(tmp_path / "s.jsonl", split))).rows) == 2
    with pytest.raises(DataError, match="row 2 repeats the id '1'"):
        predictions.read_predictions(str(write(tmp_path / "t.jsonl", [{"id": 1}, {"id": "1"}])))


def test_csv_keeps_labels_as_text_and_reads_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,label,pred\n1,01,1\n")
    assert predictions.read_predictions(str(tmp_path / "p.csv")).rows == [{"id": "1", "label": "01", "pred": "1"}]
    (tmp_path / "n.csv").write_text("id,nats,bytes,tokens\n1,2.5,3,1\n")
    assert predictions.read_predictions(str(tmp_path / "n.csv")).rows[0]["nats"] == 2.5
    (tmp_path / "b.csv").write_text("id,nats,bytes\n1,much,3\n")
    with pytest.raises(DataError, match="a CSV row has something else than a number"):
        predictions.read_predictions(str(tmp_path / "b.csv"))


@pytest.mark.parametrize(
    ("data", "name", "word"),
    [
        (b'{"id": 1}\n{"id"', "p.jsonl", "line 2 is not JSON"), (b"[1]\n", "p.jsonl", "not a JSON object"), (b'{"id": "\xff"}\n', "p.jsonl", "line 1"),
        (b"ARROW1 and no more", "p.arrow", "cannot read"), (b"a,b\n1\n", "p.csv", "row 2: 1 fields where 2 are expected, separated by"), (b"PAR1", "p.parquet", "cannot read"),
        (b"id,label\n1,\xff\xfe\0\1\n", "p.csv", "binary"), (b"not gzip", "p.jsonl.gz", "cannot read"),
    ],
)  # fmt: skip
def test_damaged_files_name_what_is_wrong(data: bytes, name: str, word: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=word):
        predictions.read_predictions(str(tmp_path / name))


def test_paths_that_hold_none(tmp_path: Path, workspace: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        predictions.read_predictions(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="holds nothing, not predictions"):
        predictions.read_predictions(str(tmp_path))
    with pytest.raises(DataError, match="holds documents, not predictions"):
        predictions.read_predictions(str(workspace / "unique"))


def test_peek(tmp_path: Path) -> None:
    rows = [{"context": "c", "choices": ["a", "b"], "label": 0}]
    path = str(write(tmp_path / "d.jsonl", rows))
    assert set(sniff.columns(path, ReadOptions("context"))) >= {"text", "choices", "label"}
    assert sniff.columns(path, ReadOptions("absent")) == []
    (tmp_path / "e.jsonl").write_text("")
    assert sniff.columns(str(tmp_path / "e.jsonl"), ReadOptions("context")) == []
