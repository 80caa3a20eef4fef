"""Compressed files that pyarrow does not read by itself."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from gptctl.core.errors import DataError
from gptctl.io.decompress import zstd_window
from gptctl.io.files import read_all
from tests.io.formats.reading import texts

LINES = b'{"text": "One."}\n{"text": "Two."}\n'
GZIPPED = gzip.compress(LINES, mtime=0)  # the same at any time, because it is part of a test's name
# One frame of `zstd --long=31 --ultra -22`, whose window descriptor asks for 2 GiB.
LONG = pa.compress(LINES, "zstd", asbytes=True)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.xz", lzma.compress(LINES)),
        ("a.jsonl.xz", lzma.compress(LINES[:17]) + lzma.compress(LINES[17:])),
        ("a.jsonl.gz", GZIPPED + bytes(10_000)),
        ("a.jsonl.gz", gzip.compress(LINES[:5], mtime=0) + gzip.compress(LINES[5:], mtime=0) + bytes(3)),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0) + GZIPPED),
    ],
)
def test_streams_and_what_is_behind_them(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert texts(tmp_path / name) == ["One.", "Two."]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl.xz", lzma.compress(LINES)[:-9], "Truncated compressed stream"),
        ("a.jsonl.xz", LINES, "not supported|Input format"),
        ("a.jsonl.gz", GZIPPED[:-9], "Truncated compressed stream"),
        ("a.jsonl.gz", GZIPPED + b"xyz", "Not a gzipped file"),
        ("a.jsonl.gz", LINES, "Not a gzipped file"),
    ],
)
def test_damage_is_an_error(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=reason):
        read_all(str(tmp_path / name), 10**6)


def long_window(data: bytes) -> bytes:
    """Return a zstd frame of raw blocks whose header asks for a window of 2 GiB (RFC 8878, section 3.1.1)."""
    block = (len(data) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + block + data


def test_a_zstd_file_with_a_long_window(tmp_path: Path) -> None:
    data = long_window(LINES)
    assert zstd_window(data[:6]) == 2**31
    assert zstd_window(pa.compress(LINES * 100, "zstd", asbytes=True)[:6]) <= 2**27
    (tmp_path / "a.jsonl.zst").write_bytes(data)
    assert texts(tmp_path / "a.jsonl.zst") == ["One.", "Two."]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:7] + b"\xff" + data[8:]])
def test_a_damaged_zstd_file_with_a_long_window(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(damage(long_window(LINES * 9)))
    with pytest.raises(DataError, match="damaged"):
        texts(tmp_path / "a.jsonl.zst")
