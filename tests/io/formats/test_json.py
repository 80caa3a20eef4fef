"""JSON and JSON lines that are not quite what their names say, and integers of any length."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import ReadOptions
from tests.io.formats.reading import read, texts

GOOD = ['{"id": "a", "text": "The first."}', '{"id": "c", "text": "The third."}']
BAD = {
    "half a pair": '{"id": "b", "text": "half \\ud83d"}',
    "NaN": '{"id": "b", "text": "ok", "score": NaN}',
    "a lone quote": '{"id": "b", "text": "a \\x"}',
    "no text": '{"id": "b"}',
    "no object": "17",
    "Infinity": '{"id": "b", "text": "ok", "score": [-Infinity]}',
}


@pytest.mark.parametrize("name", [name for name in BAD if name != "a lone quote"])
def test_one_bad_record_of_an_array_costs_one_record(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{GOOD[0]},\n {BAD[name]} , {GOOD[1]} ]\n")
    found = read(tmp_path / "a.json")
    assert found.documents["text"].to_pylist() == ["The first.", "The third."]
    assert [bad.position for bad in found.unreadable] == ["item 1"]


def test_bytes_that_are_not_utf8_cost_one_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(f'[{GOOD[0]}, {{"text": "caf\xe9"}}, {GOOD[1]}]'.encode("latin-1"))
    found = read(tmp_path / "a.json")
    assert [(bad.position, bad.reason) for bad in found.unreadable] == [("item 1", "not UTF-8")]
    assert len(found.documents) == 2


@pytest.mark.parametrize("data", ["[1, 2", "[{}] {}", "[{} {}]", '[{"text": "a \\x"}]', "[" * 5000])
def test_an_array_without_a_structure_is_refused(data: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(data)
    with pytest.raises(DataError, match=r"cannot read .*a\.json"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("between", ["\n", "", " ", "\n\n", "\r\n", "\ufeff"])
def test_objects_one_after_the_other(between: str, tmp_path: Path) -> None:
    """As jq writes them, over several lines, or joined without any."""
    rows = [{"id": name, "text": f"The text é of {name}."} for name in "abc"]
    data = between.join(json.dumps(row, indent=2, ensure_ascii=False) for row in rows)
    (tmp_path / "a.json").write_text(data, encoding="utf-8", newline="")
    found = read(tmp_path / "a.json")
    assert found.documents["text"].to_pylist() == [row["text"] for row in rows]
    assert found.unreadable == []


def test_json_lines_in_a_json_file_keep_their_positions(tmp_path: Path) -> None:
    lines = '{"text": "é one"}\n{"text": "two"}\n{"text": "three", "n": NaN}\n{"text": "four"}\n'
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text(lines)
    one, other = read(tmp_path / "a.json"), read(tmp_path / "a.jsonl")
    assert [i.partition(":")[2] for i in one.documents["id"].to_pylist()] == [
        i.partition(":")[2] for i in other.documents["id"].to_pylist()
    ]
    assert [bad.position for bad in one.unreadable] == [bad.position for bad in other.unreadable] == ["byte 35"]


def test_marks_inside_a_file_that_was_joined_from_several(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(b"\xef\xbb\xbf" + line.encode() + b"\n" for line in GOOD))
    assert texts(tmp_path / "a.jsonl") == ["The first.", "The third."]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "array.json"])
def test_integers_beyond_64_bits_keep_their_digits(name: str, tmp_path: Path) -> None:
    """In ids, columns, lists and objects. Others stay numbers."""
    big = "123456789012345678900"
    lines = [
        f'{{"id": {big}{i}, "text": "t", "n": {big}{i}, "l": [1, {big}{i}], "o": {{"x": -{big}{i}}}, "f": 0.5}}'
        for i in range(3)
    ]
    data = f"[{','.join(lines)}]" if name.startswith("array") else "\n".join(lines)
    (tmp_path / name).write_text(data)
    table = read(tmp_path / name).documents
    assert table["id"].to_pylist() == [f"{big}{i}" for i in range(3)]
    assert table["n"].to_pylist() == [f"{big}{i}" for i in range(3)]
    assert [json.loads(v)[1] if isinstance(v, str) else v[1] for v in table["l"].to_pylist()] == [
        f"{big}{i}" for i in range(3)
    ]
    assert table["o"].to_pylist()[2]["x"] == f"-{big}2"
    assert table["f"].to_pylist() == [0.5] * 3


def test_integers_and_floats_at_the_edge_stay_numbers(tmp_path: Path) -> None:
    rows = ['{"text": "t", "n": 18446744073709551615, "f": 1e300}', '{"text": "t", "n": 9223372036854775808, "f": 2.5}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    table = read(tmp_path / "a.jsonl").documents
    assert table["n"].to_pylist() == [str(2**64 - 1), str(2**63)]  # they do not fit into int64
    assert table["f"].to_pylist() == [1e300, 2.5]
    (tmp_path / "b.jsonl").write_text('{"text": "t", "n": -9223372036854775809}')
    assert read(tmp_path / "b.jsonl").documents["n"].to_pylist() == ["-9223372036854775809"]


def test_ids_of_any_type(tmp_path: Path) -> None:
    ids = ['{"$oid": "65f0"}', "true", "[1, 2]", "7", "0.5", '"x"', "null"]
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {one}, "text": "t"}}\n' for one in ids))
    assert read(tmp_path / "a.jsonl").documents["id"].to_pylist() == [
        '{"$oid":"65f0"}', "true", "[1,2]", "7", "0.5", "x", f"a.jsonl:{sum(len(one) + 22 for one in ids[:-1])}",
    ]  # fmt: skip


def test_a_text_inside_an_object(tmp_path: Path) -> None:
    options = ReadOptions(text_column="content.body.text", id_column="meta.id")
    rows = [{"content": {"body": {"text": f"Text {i}."}}, "meta": {"id": i}} for i in range(2)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"content": {}}]))
    found = read(tmp_path / "a.jsonl", options)
    assert found.documents["text"].to_pylist() == ["Text 0.", "Text 1."]
    assert found.documents["id"].to_pylist() == ["0", "1"]
    assert [bad.reason for bad in found.unreadable] == ["no column 'content.body.text'"]


def test_a_column_whose_name_has_a_dot_comes_first(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a.b": "outer", "a": {"b": "inner"}}\n')
    assert texts(tmp_path / "a.jsonl", ReadOptions(text_column="a.b")) == ["outer"]
