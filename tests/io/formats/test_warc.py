"""WARC, WET and WAT files as crawlers write them."""

from __future__ import annotations

import bz2
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pyarrow as pa
import pytest

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import ReadOptions
from tests.conftest import Ran
from tests.io.formats.reading import read, texts
from tests.io.formats.web_archive import HTTP, chunked, record, response

PAGE = "<!DOCTYPE html><html><body><p>It was a bright cold day in April, and the clocks struck.</p></body></html>"
BODY = PAGE.encode()
CHUNKED, GZIP = "Transfer-Encoding: chunked", "Content-Encoding: gzip"
DEFLATED = zlib.compress(BODY)
ENCODED = {
    "plain": response(BODY),
    "chunked": response(chunked(BODY), CHUNKED),
    "chunked, in other letters": response(chunked(BODY), "transfer-encoding: Chunked"),
    "gzip": response(gzip.compress(BODY), GZIP),
    "chunked and gzip": response(chunked(gzip.compress(BODY)), CHUNKED, GZIP),
    "x-gzip": response(gzip.compress(BODY), "Content-Encoding: x-gzip"),
    "deflate": response(DEFLATED, "Content-Encoding: deflate"),
    "deflate without zlib's header": response(DEFLATED[2:-4], "Content-Encoding: deflate"),
    "brotli": response(brotli.compress(BODY), "Content-Encoding: br"),
    "zstd": response(pa.compress(BODY, "zstd", asbytes=True), "Content-Encoding: zstd"),
    "two in one header": response(brotli.compress(gzip.compress(BODY)), "Content-Encoding: gzip, br"),
    "two headers": response(brotli.compress(gzip.compress(BODY)), GZIP, "Content-Encoding: br"),
    "identity": response(BODY, "Content-Encoding: identity"),
    "no type": response(BODY, content_type=""),
    "xhtml": response(BODY, content_type="application/xhtml+xml; charset=utf-8"),
}
LYING = {
    name: response(BODY, header)
    for name, header in {
        "chunked": CHUNKED, "gzip": GZIP, "deflate": "Content-Encoding: deflate", "brotli": "Content-Encoding: br",
        "zstd": "Content-Encoding: zstd",
    }.items()
} | {"gzip in chunks": response(gzip.compress(BODY), CHUNKED, GZIP)}  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
def test_bodies_are_decoded(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(ENCODED[name])
    assert texts(tmp_path / "a.warc") == [PAGE]


@pytest.mark.parametrize("name", LYING)
def test_a_header_that_the_body_contradicts_is_ignored(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(LYING[name])
    assert texts(tmp_path / "a.warc") == [PAGE]


def test_bodies_that_cannot_be_decoded_are_quarantined(tmp_path: Path) -> None:
    bomb = response(gzip.compress(bytes(10**6)), GZIP, number=1)
    unknown = response(b"\x1f\x9d", "Content-Encoding: compress", number=2)
    (tmp_path / "a.warc").write_bytes(bomb + unknown + ENCODED["plain"])
    found = read(tmp_path / "a.warc", ReadOptions(max_doc_bytes=10_000))
    assert found.documents["text"].to_pylist() == [PAGE]
    assert [(bad.position[-4:], bad.reason) for bad in found.unreadable] == [
        ("001>", "longer than 10000 bytes"),
        ("002>", "body in the unknown encoding 'compress'"),
    ]


def test_a_body_that_the_crawler_cut_gives_its_beginning(tmp_path: Path) -> None:
    for number, data in enumerate((response(chunked(BODY)[:70], CHUNKED), response(gzip.compress(BODY)[:-20], GZIP))):
        path = tmp_path / f"{number}.warc"
        path.write_bytes(data)
        (text,) = texts(path)
        assert PAGE.startswith(text)
        assert len(text) > 20


def test_every_record_is_read_or_counted_by_its_type(tmp_path: Path, gptctl: Callable[..., Ran]) -> None:
    polish = "Zażółć gęślą jaźń, a potem idź do łóżka."
    records = (
        record("warcinfo", "application/warc-fields", b"software: test\r\n", 1),
        record("request", "application/http; msgtype=request", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", 2),
        response(b"\x89PNG\r\n\x1a\n", content_type="image/png", number=3),
        response(b"\x89PNG\r\n\x1a\n\0\0", number=4),
        response(b"body { color: red }", content_type="text/css", number=5),
        response(b"Some words.", content_type="", number=6),
        response(BODY, number=7),
        record("conversion", "text/plain", polish.encode(), 8),
        record("resource", "text/html; charset=iso-8859-2", polish.encode("iso-8859-2"), 9),
        record("resource", "application/pdf", b"%PDF-1.7", 10),
        record("resource", "text/plain", b"a log", 11, "metadata://gnu.org/software/wget/warc/wget.log"),
        record("metadata", "application/json", b"{}", 12),
        record("metadata", "text/plain", b"The words of a page.", 13),
        record("revisit", HTTP, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", 14),
    )
    (tmp_path / "a.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    done = gptctl("clean", "a.warc.gz", "-o", "out", "--preset", "none", "--json")
    assert done.code == 0, done.err
    counts = done.json["counts"]
    assert (counts["in"], counts["kept"]) == (4, 4)
    assert counts["skipped"] == dict.fromkeys(
        ("binary called text/html", "image/png", "metadata application/json", "no type", "request",
         "resource application/pdf", "resource text/plain", "revisit", "text/css", "warcinfo"), 1,
    )  # fmt: skip
    assert "not read: image/png" in done.err
    rows = gptctl("inspect", "out", "--limit", "0", "--format", "jsonl").out.splitlines()
    assert [json.loads(row)["text"] for row in rows] == [
        "It was a bright cold day in April, and the clocks struck.", polish, polish, "The words of a page.",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["CC-MAIN-1.warc.wet.gz", "a.wet", "a.warc.gz", "a.warc.bz2", "a.warc.zst"])
def test_wet_files(name: str, tmp_path: Path) -> None:
    records = [
        record("conversion", "text/plain", b"The first page.", 1),
        record("conversion", "text/plain", b"Two.", 2),
    ]
    info = record("warcinfo", "application/warc-fields", b"isPartOf: CC-MAIN-2025-05\r\n")
    pack = {
        "wet": bytes, "gz": gzip.compress, "bz2": bz2.compress, "zst": lambda d: pa.compress(d, "zstd", asbytes=True),
    }[name.rpartition(".")[2]]  # fmt: skip
    (tmp_path / name).write_bytes(b"".join(pack(one) for one in (info, *records)))
    found = read(tmp_path / name)
    assert found.documents["text"].to_pylist() == ["The first page.", "Two."]
    assert found.documents["url"].to_pylist() == ["http://example.org/"] * 2
    assert found.skipped == {"warcinfo": 1}


def test_a_wat_file_holds_no_text(tmp_path: Path, gptctl: Callable[..., Ran]) -> None:
    (tmp_path / "a.wat.gz").write_bytes(gzip.compress(record("metadata", "application/json", b"{}")))
    done = gptctl("clean", "a.wat.gz", "-o", "out")
    assert done.code == 3
    assert "1 records hold no text and are not read: metadata application/json (1)" in done.err


def test_a_file_that_was_cut_is_found(tmp_path: Path) -> None:
    """A plain file is cut inside the body or the header of its last record; a compressed one anywhere."""
    one = response(BODY, number=1)
    for end, reason in {
        len(one) + 60: "the file ends in the header of a record",
        2 * len(one) - 30: f"the file ends after {len(BODY) - 26} of {len(BODY)} bytes of a record",
    }.items():
        path = tmp_path / f"{end}.warc"
        path.write_bytes((one * 2)[:end])
        found = read(path)
        assert (found.documents["text"].to_pylist(), [bad.reason for bad in found.unreadable]) == ([PAGE], [reason])
    packed = gzip.compress(one)
    for end in (len(packed) + 15, 2 * len(packed) - 15):
        path = tmp_path / f"{end}.warc.gz"
        path.write_bytes((packed * 2)[:end])
        with pytest.raises(DataError, match="Truncated compressed stream"):
            read(path)


def test_an_image_that_was_cut_is_found_too(tmp_path: Path) -> None:
    image = response(bytes(1000), content_type="image/png")
    (tmp_path / "a.warc").write_bytes(response(BODY) + image[:-500])
    assert [bad.reason for bad in read(tmp_path / "a.warc").unreadable] == [
        "the file ends after 504 of 1,000 bytes of a record"
    ]
