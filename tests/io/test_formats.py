"""Each input format gives the same documents however it is split, and names what it cannot read."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as papq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptctl.core.errors import DataError, GptctlError
from gptctl.io import formats
from gptctl.io.formats import InputFile
from gptctl.io.input.blocks import ReadOptions, UnreadableRecord
from tests.conftest import documents, write_jsonl

OPTIONS = ReadOptions()


def read(path: Path, target: int = 2**20, options: ReadOptions = OPTIONS) -> tuple[pa.Table, list[UnreadableRecord]]:
    file = InputFile(str(path), path.name, path.stat().st_size)
    module = formats.for_path(str(path))
    tables, bad = [], []
    for block in module.split_file(file, target, options):
        table, wrong, *_ = formats.load(block.format).read_block(block, options)
        tables.append(table)
        bad += wrong
    return (pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})), bad


@pytest.mark.parametrize("target", [1, 17, 100, 1000, 10**6])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".bz2", ".lz4"])
def test_jsonl_is_the_same_for_any_split_and_compression(tmp_path: Path, target: int, suffix: str) -> None:
    rows = documents(20, words=12)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    if suffix:
        codec = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}[suffix]
        with pa.CompressedOutputStream(str(path) + suffix, codec) as out:
            out.write(path.read_bytes())
        path = path.with_name(path.name + suffix)
    table, bad = read(path, target)
    assert table.select(["id", "text"]).to_pylist() == rows
    assert bad == []


def test_bad_lines_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps({"text": "good"}).encode()
    lines = [
        good,
        b"{broken",
        b'{"text": "\xff"}',
        b"[1]",
        b'{"other": 1}',
        b'{"text": null}',
        b'{"text": 5}',
        b'{"text": "\\ud800"}',
        b'{"text": NaN}',
        good,
    ]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    for target in (5, 10**6):
        table, bad = read(path, target)
        assert table["text"].to_pylist() == ["good", "good"]
        assert [b.reason.split(":")[0] for b in bad if b.reason.startswith("not JSON")] == ["not JSON"] * 3
        reasons = {b.reason for b in bad if not b.reason.startswith("not JSON")}
        assert reasons == {"not UTF-8", "not an object", "no column 'text'", "text is null", "text is not a string"}
        assert len(bad) == 8
        assert all(bad.position.startswith("byte ") for bad in bad)


def test_a_line_longer_than_allowed_is_quarantined_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": "' + b"x" * 10**6 + b'"}\n{"text": "two"}\n')
    for target in (1000, 10**7):
        table, bad = read(path, target, ReadOptions(max_doc_bytes=2000))
        assert table["text"].to_pylist() == ["one", "two"]
        assert [b.reason for b in bad] == ["longer than 2000 bytes"]


def test_json_array_object_and_lines(tmp_path: Path) -> None:
    for text in ('[{"text": "a"}, {"text": "b"}]', '{"text": "a"}\n{"text": "b"}'):
        (tmp_path / "a.json").write_text(text)
        assert read(tmp_path / "a.json")[0]["text"].to_pylist() == ["a", "b"]
    (tmp_path / "a.json").write_text('[{"text": ')
    with pytest.raises(DataError):
        read(tmp_path / "a.json")


def test_text_markdown_and_source_are_one_document_each(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    return 1\n")
    table, _ = read(tmp_path / "a.py")
    assert table.to_pylist() == [{"id": "a.py", "text": "def f():\n    return 1\n", "source": "a.py"}]
    (tmp_path / "b.txt").write_bytes("Größe".encode() + b"\xff")
    table, bad = read(tmp_path / "b.txt")
    assert (len(table), bad[0].reason, bad[0].position) == (0, "not UTF-8", "byte 7")


def test_html_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(
        '<html><head><meta charset="windows-1252"></head><body>café</body></html>'.encode("cp1252")
    )
    assert "café" in read(tmp_path / "a.html")[0]["text"][0].as_py()


def test_csv_keeps_labels_as_text_and_names_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        'text,label\n"one, two\nthree",01\nshort\nschön,1\nnot \xff,1\nlast,02\n'.encode().replace(b"\xc3\xbf", b"\xff")
    )
    table, bad = read(tmp_path / "a.csv")
    assert table["text"].to_pylist() == ["one, two\nthree", "schön", "last"]
    assert table["label"].to_pylist() == ["01", "1", "02"]
    reasons = ["1 fields where 2 are expected, separated by ','", "not UTF-8"]
    assert [(b.reason, b.position) for b in bad] == [(reasons[0], "row 3"), (reasons[1], "row 2")]


def test_parquet_and_arrow_in_row_groups_and_batches(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(documents(50))
    papq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    with ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    with ipc.new_stream(str(tmp_path / "b.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "a.arrow", "b.arrow"):
        found, bad = read(tmp_path / name)
        assert found.select(["id", "text"]).to_pylist() == table.to_pylist()
        assert bad == []


def test_rows_without_id_get_one_by_position(tmp_path: Path) -> None:
    papq.write_table(pa.table({"text": ["a", None, "c"]}), tmp_path / "a.parquet", row_group_size=2)
    table, bad = read(tmp_path / "a.parquet")
    assert table["id"].to_pylist() == ["a.parquet:0", "a.parquet:2"]
    assert [(b.position, b.reason) for b in bad] == [("row 1", "text is null")]


def test_a_foreign_arrow_file_with_bad_offsets_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["abc" * 37] * 3})
    with ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    data = (tmp_path / "a.arrow").read_bytes()
    offsets = b"".join((111 * i).to_bytes(4, "little") for i in range(4))
    assert data.count(offsets) == 1
    (tmp_path / "a.arrow").write_bytes(data.replace(offsets, offsets[:12] + b"\0\0\0\5"))
    with pytest.raises(DataError):
        read(tmp_path / "a.arrow")


@pytest.mark.parametrize(
    "suffix",
    [".parquet", ".arrow", ".json", ".jsonl.gz", ".jsonl.zst", ".csv.gz", ".warc", ".jsonl", ".csv", ".txt", ".html"],
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_any_bytes_give_records_or_a_clean_error(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    try:
        table, _ = read(path)
        table.validate(full=True)
    except GptctlError as error:
        assert error.exit_code in (2, 3)


def test_gzip_in_several_members(tmp_path: Path) -> None:
    parts = [gzip.compress(json.dumps({"text": t}).encode() + b"\n") for t in ("a", "b")]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(parts))
    assert read(tmp_path / "a.jsonl.gz")[0]["text"].to_pylist() == ["a", "b"]


def test_warc(tmp_path: Path) -> None:
    page = b"<html><body><p>Hello</p></body></html>"
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s" % (
        len(page),
        page,
    )
    head = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/\r\nWARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-123456789abc>\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n"
        % len(http)
    )
    for name, data in (("a.warc", head + http + b"\r\n\r\n"), ("a.warc.gz", gzip.compress(head + http + b"\r\n\r\n"))):
        (tmp_path / name).write_bytes(data)
        table, bad = read(tmp_path / name)
        assert table["url"].to_pylist() == ["http://example.org/"]
        assert "Hello" in table["text"][0].as_py()
        assert bad == []
