"""The dialect of a CSV file is found, and its rows are those that pandas, polars and DuckDB read."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.io.formats import InputFile
from gptctl.io.formats import csv as csv_format
from gptctl.io.input.blocks import ReadOptions
from tests.conftest import REPO, documents

Rows = list[dict[str, str]]


def read(path: Path, block_bytes: int = 2**20, **options: Any) -> tuple[Rows, list[str]]:
    """Return the rows of a file, and the reasons for those that could not be read."""
    file = InputFile(str(path), path.name, path.stat().st_size)
    reading = ReadOptions(max_doc_bytes=block_bytes // 2, **options)
    rows: Rows = []
    bad: list[str] = []
    for block in csv_format.split_file(file, block_bytes, reading):
        found = csv_format.read_table(block)
        rows += found.documents.to_pylist()
        bad += [record.reason for record in found.unreadable]
    return rows, bad


def table(delimiter: str, quoting: Any = csv.QUOTE_MINIMAL) -> str:
    """Real texts with commas, semicolons, quotes and line ends, as a CSV file."""
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerow(["id", "text", "price, net", "label"])
    for number, row in enumerate(documents(60, words=25)):
        text = f'{row["text"]}; said "yes",\nand | left' if number % 3 == 0 else row["text"]
        writer.writerow([row["id"], text, f"{number},50", ["even", "odd"][number % 2]])
    return sink.getvalue()


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_as_pandas_polars_and_duckdb_read_it(encoding: str, delimiter: str, quoting: Any, tmp_path: Path) -> None:
    """They are told the delimiter; DuckDB finds it, too."""
    path = tmp_path / "a.csv"
    path.write_bytes(table(delimiter, quoting).encode(encoding))
    rows, bad = read(path)
    assert (len(rows), bad) == (60, [])
    frame = pd.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False, encoding=encoding)
    assert rows == frame.to_dict("records")
    if encoding == "utf-8":
        assert rows == pl.read_csv(path, separator=delimiter, infer_schema=False).to_dicts()
        found = duckdb.read_csv(str(path), all_varchar=True)
        assert rows == [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_a_german_excel_export(encoding: str, tmp_path: Path) -> None:
    text = 'sep=;\r\nid;Text;Preis\r\n1;"Schöne Grüße; bis bald, tschüss";3,50\r\n2;Äpfel, Öl, Übung;4,20\r\n'
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read(tmp_path / "a.csv") == (
        [
            {"id": "1", "Text": "Schöne Grüße; bis bald, tschüss", "Preis": "3,50"},
            {"id": "2", "Text": "Äpfel, Öl, Übung", "Preis": "4,20"},
        ],
        [],
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text\nHello, world\nFoo; bar; baz\n", [{"text": "Hello, world"}, {"text": "Foo; bar; baz"}]),
        ("text (a;b)\nHello, world\nplain\nfoo\n", [{"text (a;b)": text} for text in ("Hello, world", "plain", "foo")]),
        ("text,label\na; b; c,x\nfoo; bar,y\n", [{"text": "a; b; c", "label": "x"}, {"text": "foo; bar", "label": "y"}]),
        ("text;label\na, b, c;x\nfoo, bar;y\n", [{"text": "a, b, c", "label": "x"}, {"text": "foo, bar", "label": "y"}]),
        ("a (EUR, net);b\n1,50;x\n2,50;y\n", [{"a (EUR, net)": "1,50", "b": "x"}, {"a (EUR, net)": "2,50", "b": "y"}]),
        ("text;label\n", []),
        ("text", []),
        ("", []),
        ("text,label\rold,x\rMac,y", [{"text": "old", "label": "x"}, {"text": "Mac", "label": "y"}]),
        ('text,label\n5" pipe,x\n"a ""b""",y\n', [{"text": '5" pipe', "label": "x"}, {"text": 'a "b"', "label": "y"}]),
    ],
)  # fmt: skip
def test_files_that_mislead(text: str, expected: Rows, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, newline="")
    assert read(tmp_path / "a.csv") == (expected, [])


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("block_bytes", [2**20, 150])
def test_a_lone_quote_swallows_nothing(delimiter: str, block_bytes: int, tmp_path: Path) -> None:
    """Not at the start of a field, nor inside it, nor in a file with fields in quotes."""
    texts = [
        "The first sentence.", '"Quoted at the start only, second sentence.', "The third sentence.",
        'He said "yes" and left.', '"Stop" is a word.', '"A field, in ""quotes""\nwith a line end"', 'the end "', "Last.",
    ]  # fmt: skip
    fields = [text.replace(",", "") if delimiter == "," and text[-2:] != 'd"' else text for text in texts]
    lines = [delimiter.join((str(number), text)) for number, text in enumerate(fields)]
    (tmp_path / "a.tsv").write_text(delimiter.join(("id", "text")) + "\n" + "\n".join(lines))
    rows, bad = read(tmp_path / "a.tsv", block_bytes)
    assert bad == []
    expected = [*fields[:5], fields[5][1:-1].replace('""', '"'), *fields[6:]]
    assert [row["text"] for row in rows] == expected


def test_a_quote_at_the_start_and_one_at_the_end_of_a_row_of_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('id\ttext\n1\t"To be\n2\tor not to be"\n3\t"quoted"\n')
    assert [row["text"] for row in read(tmp_path / "a.tsv")[0]] == ['"To be', 'or not to be"', "quoted"]
    assert [row["text"] for row in read(tmp_path / "a.tsv", quote="none")[0]] == ['"To be', 'or not to be"', '"quoted"']


def test_what_the_options_set_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text;x,label\n'a;b,c';d,e\n")
    assert read(tmp_path / "a.csv", delimiter=",")[1] == ["3 fields where 2 are expected, separated by ','"]
    assert read(tmp_path / "a.csv", delimiter=";", quote="'")[0] == [{"text": "a;b,c", "x,label": "d,e"}]


@settings(max_examples=40)
@given(
    rows=st.lists(st.lists(st.text('ab",;|\n é', min_size=1, max_size=12), min_size=3, max_size=3), max_size=12),
    delimiter=st.sampled_from(",;|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    block_bytes=st.sampled_from([400, 2**20]),
)
def test_well_formed_files_are_read_as_the_standard_library_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str, quoting: Any, line_end: str,
    block_bytes: int,
) -> None:  # fmt: skip
    """However they are cut into blocks."""
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    writer.writerows([["one", "two", "three"], *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(sink.getvalue().encode())
    found, bad = read(path, block_bytes, delimiter=delimiter)
    assert ([list(row.values()) for row in found], bad) == (rows, [])


def test_a_row_without_end_is_an_error_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + b"x" * 5000)
    with pytest.raises(DataError, match="a row is longer than 1,000 bytes"):
        read(tmp_path / "a.csv", 1000)


READING = """
import resource, sys
from pathlib import Path
from gptctl.io.formats import InputFile, csv
from gptctl.io.input.blocks import ReadOptions
path = Path(sys.argv[1])
options = ReadOptions(max_doc_bytes=2**20)
rows = sum(len(csv.read_table(b).documents) for b in csv.split_file(InputFile(str(path), "a", path.stat().st_size), 1, options))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_quote_that_is_never_closed_does_not_cost_memory(tmp_path: Path) -> None:
    """The rows behind it are read in blocks, however many there are."""
    peaks = []
    for rows in (200_000, 1_600_000):
        with (tmp_path / "a.csv").open("w") as file:
            file.write('id,text\n0,"a quote that is never closed\n')
            file.writelines(f"{number},some words of a row that is not long\n" for number in range(1, rows))
        command = [sys.executable, "-c", READING, str(tmp_path / "a.csv")]
        found, peak = subprocess.run(command, capture_output=True, check=True, text=True, cwd=REPO).stdout.split()
        assert int(found) == rows
        peaks.append(int(peak) * 1024)
    assert peaks[1] < peaks[0] + 16 * 2**20, peaks
