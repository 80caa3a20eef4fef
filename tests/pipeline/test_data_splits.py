"""What finetune and eval read of DATA: which texts have a label, and what is held out, which is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from gptctl.core.config import ReadingOptions
from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.pipeline import data_splits
from gptctl.train.tasks.finetune_options import FinetuneOptions
from tests.conftest import write_jsonl

ROWS = [{"id": f"d{i}", "text": f"text number {i}", "label": ("a", "b", "", None, " ")[i % 5]} for i in range(100)]


def test_texts_without_a_label_are_left_out(tmp_path: Path) -> None:
    """In train and in val; they are counted and listed, and are no class."""
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "val.jsonl", ROWS[:10])
    warnings: list[str] = []
    found = FinetuneOptions().read_sources([str(tmp_path)], Context(warn=warnings.append))
    [tables] = found.sources.values()
    assert {name: len(table) for name, table in tables.items()} == {"train": 40, "val": 4}
    assert data_splits.label_names(tables["train"], "label") == ["a", "b"]
    assert [(one.position, one.reason) for one in found.quarantined[:2]] == [
        ("id d2", "no label"),
        ("id d3", "no label"),
    ]
    assert warnings == [
        "train: 60 of 100 texts have no label and are left out; the first is id d2",
        "val: 6 of 10 texts have no label and are left out; the first is id d2",
    ]
    everything = FinetuneOptions(task="lm").read_sources([str(tmp_path)], Context())
    assert len(everything.sources[tmp_path.name]["train"]) == 100


@pytest.mark.parametrize("values", [["", " ", None], [float("nan"), None], ["NaN", "nan"]])
def test_data_without_any_label(values: list[object]) -> None:
    table = pa.table(
        {"id": ["1"] * len(values), "text": ["x"] * len(values), "source": ["f"] * len(values), "label": values}
    )
    with pytest.raises(DataError, match="test: no text has a label in column 'label'"):
        data_splits.with_labels(table, "label", "test")
    with pytest.raises(DataError, match="has no column 'kind'; it has: id, text, source, label"):
        data_splits.with_labels(table, "kind", "test")


def test_what_is_held_out_is_said(tmp_path: Path) -> None:
    """By finetune, and by eval of the same file; nothing is said of data with a val split."""
    source = write_jsonl(tmp_path / "tickets.jsonl", ROWS)
    said: list[str] = []
    tables, prints = data_splits.training_splits(FinetuneOptions(), str(source), Context(info=said.append))
    held = len(tables["val"])
    assert 0 < held < 30
    assert said == [
        f"{source} has no val split: {held} of its 100 texts are held out as val, by a hash of the text",
    ]
    said.clear()
    [(split, table)] = data_splits.evaluation_splits(FinetuneOptions(), str(source), prints, Context(info=said.append))
    assert (split, table["id"].to_pylist()) == ("val", tables["val"]["id"].to_pylist())
    assert said == [
        f"the model was finetuned on {source}: only the {held} of 100 texts that were held out from its training are "
        "scored, as val"
    ]
    said.clear()
    (tmp_path / "both").mkdir()
    write_jsonl(tmp_path / "both" / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "both" / "val.jsonl", ROWS[:5])
    data_splits.training_splits(FinetuneOptions(), str(tmp_path / "both"), Context(info=said.append))
    assert said == []


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("ints.jsonl", lambda path: path.write_text('{"text":"a","label":1}\n{"text":"b","label":0}\n')),
        ("floats.jsonl", lambda path: path.write_text('{"text":"a","label":1.0}\n{"text":"b","label":0.0}\n')),
        ("texts.jsonl", lambda path: path.write_text('{"text":"a","label":"1.0"}\n{"text":"b","label":"0"}\n')),
        ("mixed.jsonl", lambda path: path.write_text('{"text":"a","label":1}\n{"text":"b","label":"0.0"}\n')),
        ("floats.csv", lambda path: path.write_text("text,label\na,1.0\nb,0.0\n")),
        ("ints.csv", lambda path: path.write_text("text,label\na,1\nb,0\n")),
        ("floats.parquet", lambda path: papq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, 0.0]}), path)),
        ("ints.parquet", lambda path: papq.write_table(pa.table({"text": ["a", "b"], "label": [1, 0]}), path)),
    ],
)
def test_a_number_is_one_label_in_every_format(name: str, write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / name)
    table, _ = data_splits.read_documents(ReadingOptions(), str(tmp_path / name), print)
    assert data_splits.labels_of(table, "label", name) == ["1", "0"]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", lambda path: path.write_text('{"text":"a","label":true}\n{"text":"b","label":false}\n')),
        ("b.jsonl", lambda path: path.write_text('{"text":"a","label":"True"}\n{"text":"b","label":false}\n')),
        ("a.csv", lambda path: path.write_text("text,label\na,True\nb,FALSE\n")),
        ("a.parquet", lambda path: papq.write_table(pa.table({"text": ["a", "b"], "label": [True, False]}), path)),
    ],
)
def test_a_truth_value_is_one_label_in_every_format(name: str, write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / name)
    table, _ = data_splits.read_documents(ReadingOptions(), str(tmp_path / name), print)
    assert data_splits.labels_of(table, "label", name) == ["true", "false"]
