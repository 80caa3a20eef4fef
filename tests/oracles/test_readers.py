"""What is read from each format, record by record, beside independent readers of the same files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zlib
from pathlib import Path
from typing import Any

import brotli
import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as papq
import pytest
from fastwarc.warc import ArchiveIterator
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from gptctl.io.input.page_charset import decode_page
from tests.io.formats.reading import read
from tests.io.formats.web_archive import chunked, record, response
from tests.io.input.udhr import ARTICLE_1

pytestmark = pytest.mark.slow
RECORDS = 300
PIECES = (
    "word",
    "Zażółć",
    "これは",
    '"quoted"',
    "a, b",
    "tab\there",
    "line\nend",
    "\u2028",
    "😀",
    "\\",
    "'",
    "é\u0301",
    "",
)
# What the encoding standard of WHATWG calls the encodings that Python has other names for.
LABELS = {"latin-1": "iso-8859-1", "cp949": "euc-kr", "cp932": "shift_jis", "cp950": "big5", "cp874": "windows-874"}


def rows(seed: int) -> list[dict[str, Any]]:
    """Return records with texts of hard characters, numbers, booleans and missing values."""
    draw = random.Random(seed)
    return [
        {
            "id": f"r{number}",
            "text": " ".join(draw.choices(PIECES, k=draw.randint(1, 12))) + ".",
            "score": draw.choice([None, draw.random(), -1.5e-7, 1e18]),
            "count": draw.choice([None, draw.randint(-(2**53), 2**53)]),
            "flag": draw.choice([True, False, None]),
            "label": draw.choice(["01", "1", "x y", None]),
        }
        for number in range(RECORDS)
    ]


def ours(path: Path) -> list[dict[str, Any]]:
    """Return what gptctl reads, without the column that it adds."""
    found = read(path)
    assert found.unreadable == []
    return [{key: value for key, value in row.items() if key != "source"} for row in found.documents.to_pylist()]


def plain(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with None where pandas has NaN."""
    return [{key: None if value is None or value != value else value for key, value in row.items()} for row in values]


@pytest.mark.parametrize("seed", range(3))
def test_json_lines(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=seed == 0) + "\n" for row in rows(seed)), encoding="utf-8")
    found = ours(path)
    assert found == pl.read_ndjson(path).to_dicts()
    assert found == duckdb.sql(f"from read_json('{path}', format='newline_delimited')").to_arrow_table().to_pylist()
    assert found == plain(pd.read_json(path, lines=True, dtype=False, precise_float=True).to_dict("records"))


@pytest.mark.parametrize("seed", range(3))
def test_json(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows(seed), indent=seed or None), encoding="utf-8")
    found = ours(path)
    assert found == pl.read_json(path).to_dicts()
    assert found == duckdb.sql(f"from read_json('{path}', format='array')").to_arrow_table().to_pylist()
    path.write_text("\n".join(json.dumps(row, indent=2) for row in rows(seed)), encoding="utf-8")
    assert ours(path) == found
    assert found == duckdb.sql(f"from read_json('{path}', format='unstructured')").to_arrow_table().to_pylist()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_csv(seed: int, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, list(rows(seed)[0]), delimiter=delimiter, lineterminator=["\n", "\r\n", "\n"][seed]
        )
        writer.writeheader()
        writer.writerows(rows(seed))
    found = ours(path)
    with path.open(encoding="utf-8", newline="") as file:
        assert found == list(csv.DictReader(file, delimiter=delimiter))
    theirs = pd.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False)
    assert found == theirs.to_dict("records")
    frame = pl.read_csv(path, separator=delimiter, infer_schema=False)
    assert found == [{key: value or "" for key, value in row.items()} for row in frame.to_dicts()]


@pytest.mark.parametrize("writer", ["pandas", "polars", "duckdb"])
def test_parquet(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame(rows(7))
    if writer == "pandas":
        frame.to_pandas().convert_dtypes().to_parquet(path, row_group_size=50)
    elif writer == "polars":
        frame.with_columns(pl.col("label").cast(pl.Categorical)).write_parquet(path, row_group_size=50)
    else:
        arrow_rows = frame.to_arrow()  # noqa: F841 (duckdb reads it by its name)
        duckdb.sql(f"copy (from arrow_rows) to '{path}' (format parquet)")
    assert ours(path) == pl.read_parquet(path).to_dicts() == papq.read_table(path).to_pylist()


def archive() -> list[tuple[str, bytes]]:
    """Return pages and the records that hold them, encoded in all the ways that fastwarc knows."""
    draw, found = random.Random(3), []
    gzipped, split = "Content-Encoding: gzip", "Transfer-Encoding: chunked"
    for number in range(RECORDS):
        page = f"<html><body><p>{' '.join(draw.choices(PIECES, k=30))}</p></body></html>"
        body = page.encode()
        kinds = (
            response(body, number=number),
            response(chunked(body, extension=b""), split, number=number),
            response(gzip.compress(body), gzipped, number=number),
            response(chunked(gzip.compress(body), extension=b""), split, gzipped, number=number),
            response(zlib.compress(body), "Content-Encoding: deflate", number=number),
            response(brotli.compress(body), "Content-Encoding: br", number=number),
        )
        found.append((page, kinds[number % len(kinds)]))
        if number % 7 == 0:
            found.append(
                ("", record("request", "application/http; msgtype=request", b"GET / HTTP/1.1\r\n\r\n", number))
            )
        if number % 11 == 0:
            found.append(("", response(b"\x89PNG", content_type="image/png", number=number)))
    return found


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_warc(suffix: str, tmp_path: Path) -> None:
    """fastwarc decodes each body by itself here.

    gptctl does not use that, since it fails where a header lies, and ends an archive early behind some bodies.
    """
    path = tmp_path / f"a.warc{suffix}"
    pages = archive()
    path.write_bytes(b"".join(gzip.compress(data) if suffix else data for _, data in pages))
    theirs = [
        (one.record_id, one.reader.read().decode())
        for _, data in pages
        for one in ArchiveIterator(io.BytesIO(data), auto_decode="all")
        if "html" in (one.http_content_type or "")
    ]
    found = read(path)
    texts, ids = found.documents["text"].to_pylist(), found.documents["id"].to_pylist()
    assert list(zip(ids, texts, strict=True)) == theirs
    assert texts == [page for page, _ in pages if page]
    assert len(texts) + found.skipped.total() == len(pages)


@pytest.mark.parametrize("language", ARTICLE_1)
def test_declared_encodings(language: str) -> None:
    """The declarations that resiliparse knows, beside what it makes of them."""
    encodings, text = ARTICLE_1[language]
    for encoding in encodings.split():
        label = LABELS.get(encoding, encoding.replace("cp125", "windows-125").replace("iso8859", "iso-8859"))
        page = f'<html><head><meta charset="{label}"></head><body><p>{text}</p></body></html>'
        data = page.encode(encoding)
        name = detect_encoding(data, from_html_meta=True)
        assert decode_page(data) == page == bytes_to_str(data, name), (label, name)
