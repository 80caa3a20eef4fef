"""Evaluation data of any columns is read whole, or refused with the columns that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.io.input.blocks import ReadOptions
from gptctl.text.cleaning import evaluation_data
from gptctl.text.cleaning.contamination import count_matches
from tests.conftest import write_jsonl

QUESTION = "Which of the two planets that have no moon at all is nearer to the sun, Mercury or Venus?"
ANSWER = "Mercury is nearer to the sun than Venus is, and neither of the two planets has any moon."


def read(path: Path, column: str | None = None, n: int = 13) -> evaluation_data.EvaluationData:
    return evaluation_data.read((str(path),), column, n, ReadOptions())


def finds(found: evaluation_data.EvaluationData, *texts: str) -> list[bool]:
    return [bool(count) for count in count_matches(pa.array(texts, pa.large_string()), found.index)]


@pytest.mark.parametrize("name", ["text", "question", "prompt", "sentence", "instruction", "input", "content"])
def test_a_column_of_a_usual_name_is_found(name: str, tmp_path: Path) -> None:
    rows = [{"answer": ANSWER, name: QUESTION, "n": 3}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    papq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(f'answer,{name}\n"{ANSWER}","{QUESTION}"\n')
    for path in sorted(tmp_path.iterdir()):
        found = read(path)
        assert (found.columns, found.others, found.rows) == ((name,), ("answer",), 1)
        assert finds(found, QUESTION, ANSWER) == [True, False]
        assert f"1 row, column {name} (not answer;" in found.describe()


def test_all_columns(tmp_path: Path) -> None:
    """`*` takes texts in lists and objects too; words of two columns never form a sequence."""
    rows: list[dict[str, Any]] = [{"question": "Why?", "choices": {"text": [ANSWER, "no"]}}, {"question": QUESTION}]
    found = read(write_jsonl(tmp_path / "a.jsonl", rows), "*")
    assert (found.rows, found.too_short, finds(found, ANSWER, QUESTION)) == (2, 0, [True, True])
    halves = [{"a": " ".join(QUESTION.split()[:9]), "b": " ".join(QUESTION.split()[9:])}]
    found = read(write_jsonl(tmp_path / "b.jsonl", halves), "*")
    assert finds(found, " ".join(QUESTION.split()[3:17])) == [False]


def test_files_of_a_folder_have_columns_of_their_own(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"question": QUESTION}])
    write_jsonl(tmp_path / "b.jsonl", [{"prompt": ANSWER}, {"prompt": "Too short"}])
    (tmp_path / "c.txt").write_text("The text of a file without columns counts as a whole, as one row of the data.")
    found = read(tmp_path)
    assert (found.columns, found.rows, found.too_short) == (("question", "prompt"), 4, 1)
    assert "1 row of fewer than 8 words cannot be found" in found.describe()
    assert finds(
        found, QUESTION, ANSWER, "Before the text of a file without columns counts as a whole, as one row"
    ) == [
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "rows, column, wanted",
    [
        ([{"rubric": QUESTION, "n": 1}], None, r"usual name; columns with texts: rubric \(1 row\)"),
        ([{"text": QUESTION}] + [{"rubric": QUESTION}] * 5, None, r"text \(1 row\), rubric \(5 rows\)"),
        ([{"text": QUESTION}] * 5 + [{"rubric": QUESTION}], None, r"1 of 6 rows .* in column 'text', first row 5"),
        ([{"text": QUESTION}, {"text": " "}], None, "1 of 2 rows"),
        ([{"text": QUESTION}, {"text": None}], None, "1 of 2 rows"),
        ([{"question": QUESTION}], "answer", r"no texts in column 'answer'; columns with texts: question \(1 row\)"),
        ([{"n": 1}], "*", "columns with texts: none"),
        ([{"question": "Who was Galileo?"}] * 3, None, "all 3 rows have fewer than 8 words"),
        ([], None, "no row to compare"),
    ],
)
def test_data_in_which_nothing_is_to_be_found(
    rows: list[dict[str, Any]], column: str | None, wanted: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=wanted):
        read(write_jsonl(tmp_path / "a.jsonl", rows), column)


def test_the_settings_of_csv_files_count(tmp_path: Path) -> None:
    """The encoding and the delimiter of INPUT are those of the evaluation data as well."""
    question = QUESTION.replace("two planets", "два планеты")
    (tmp_path / "a.csv").write_bytes(f"n#question\n1#'{question}'\n".encode("koi8-r"))
    reading = ReadOptions(encoding="koi8-r", delimiter="#", quote="'")
    found = evaluation_data.read((str(tmp_path / "a.csv"),), None, 13, reading)
    assert found.columns == ("question",)
    assert finds(found, question) == [True]


def test_a_shorter_sequence_finds_shorter_texts(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "Who was Galileo Galilei?"}])
    assert finds(read(path, n=4), "Tell me who was Galileo Galilei.") == [True]
    with pytest.raises(DataError, match="fewer than 5 words"):
        read(path, n=5)


def test_a_damaged_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\nno json\n')
    with pytest.raises(DataError, match=r"a\.jsonl is not readable at byte 14: not JSON"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="no such file"):
        read(tmp_path / "b.jsonl")
