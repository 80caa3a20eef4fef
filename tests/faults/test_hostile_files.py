"""Input that is damaged, or made to harm: it is named, all else is kept, nothing is written elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as papq
import pytest

from gptctl.core.context import Context
from gptctl.stages.inspect import Inspect, run
from tests.conftest import Ran, documents, plain_environment
from tests.faults.harness import ALONE, assert_unfinished, assert_whole, expect

Gptctl = Callable[..., Ran]
TEXT = "some text of a fair length"
TABLE = pa.table({"text": ["abc" * 37] * 3})
BOMB_BYTES = 64 * 2**20


def arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def offsets_outside() -> bytes:
    """The last text ends 80 MiB behind its buffer: reading it unchecked ends the process."""
    offsets = b"".join((111 * i).to_bytes(4, "little") for i in range(4))
    data = arrow(TABLE)
    assert data.count(offsets) == 1
    return data.replace(offsets, offsets[:12] + b"\0\0\0\5")


def parquet() -> bytearray:
    sink = io.BytesIO()
    papq.write_table(pa.table({"text": [TEXT] * 300}), sink, compression="none", use_dictionary=False)
    return bytearray(sink.getvalue())


def broken_page() -> bytes:
    data = parquet()
    data[4:60] = b"\xff" * 56
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("offsets.arrow", offsets_outside, "offsets"),
        ("encoding.arrow", lambda: arrow(TABLE).replace(b"abcabc", b"ab\xffabc", 1), "UTF8"),
        ("numbers.arrow", lambda: arrow(pa.table({"text": [1, 2]})), "column 'text' holds int64, not text"),
        ("other.arrow", lambda: arrow(pa.table({"body": ["x"]})), "no column 'text'; it has: body"),
        ("cut.arrow", lambda: arrow(TABLE)[:-30], ""),
        ("footer.parquet", lambda: bytes(parquet()[:-9]), ""),
        ("page.parquet", broken_page, ""),
    ],
)
def test_foreign_tables(name: str, make: Callable[[], bytes], words: str, tmp_path: Path, gptctl: Gptctl) -> None:
    """Exit 3 and the file's name, where a reader that trusts its input would crash."""
    (tmp_path / name).write_bytes(make())
    expect(gptctl("clean", name, "-o", "out", *ALONE), 3, name, words)
    assert_unfinished(tmp_path / "out")


HOSTILE_LINES = [
    (b"{broken", "not JSON"),
    (b'{"text": NaN}', "not JSON"),
    (b'["text"]', "not an object"),
    (b'{"other": 1}', "no column 'text'"),
    (b'{"text": "\\ud800 lone"}', "not JSON"),
    (b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
    (b'{"n": ' + b"9" * 5000 + b', "text": "%s"}' % TEXT.encode(), "not JSON"),
    (b'{"text": "caf\xe9 %s"}' % TEXT.encode(), "not UTF-8"),
]
# What is odd but allowed: a byte order mark in front, NUL (normalisation takes it out), a key twice (the last counts).
ODD_LINES = [
    (b'\xef\xbb\xbf{"text": "%s"}' % TEXT.encode(), TEXT),
    (b'{"text": "nul \\u0000 %s"}' % TEXT.encode(), f"nul  {TEXT}"),
    (b'{"text": "first", "text": "second %s"}' % TEXT.encode(), f"second {TEXT}"),
]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_hostile_lines(suffix: str, tmp_path: Path, gptctl: Gptctl) -> None:
    """Each bad line is in quarantine.jsonl with its place and reason; the lines around it are kept."""
    lines = [ODD_LINES[0][0]]
    for bad, _ in HOSTILE_LINES:
        lines += [bad, json.dumps({"text": f"{TEXT}, after {len(lines)}"}).encode()]
    lines += [line for line, _ in ODD_LINES[1:]]
    data = b"\n".join(lines)
    name = f"hostile.jsonl{suffix}"
    (tmp_path / name).write_bytes(gzip.compress(data) if suffix else data)
    expect(gptctl("clean", name, "-o", "out", *ALONE), 3, "8 of 19 records", name)
    assert_unfinished(tmp_path / "out")
    found = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    places = {f"byte {data.index(bad)}": reason for bad, reason in HOSTILE_LINES}
    assert {entry["position"]: entry["reason"].split(":")[0] for entry in found} == places
    assert {entry["file"] for entry in found} == {name}
    done = gptctl("clean", name, "-o", "out", *ALONE, "--set", "max_bad=0.5", "--json")
    assert done.code == 0, done.err
    assert (done.json["counts"]["in"], done.json["counts"]["kept"]) == (19, 11)
    assert_whole(tmp_path / "out")
    texts = [json.loads(line)["text"] for line in inspected(tmp_path / "out")]
    assert texts[0] == ODD_LINES[0][1]
    assert texts[-2:] == [text for _, text in ODD_LINES[1:]]
    assert texts[1:-2] == [f"{TEXT}, after {i}" for i in range(1, 17, 2)]


def test_a_long_line_is_no_empty_line(tmp_path: Path, gptctl: Gptctl) -> None:
    """However many blanks it begins with."""
    lines = ["", " " * 5000 + json.dumps({"text": TEXT}), " " * 50, json.dumps({"text": TEXT})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    done = gptctl(
        "clean", "a.jsonl", "-o", "out", *ALONE, "--set", "max_doc_bytes=2000", "--set", "max_bad=1", "--json"
    )
    counts = done.json["counts"]
    assert (counts["in"], counts["kept"], counts["quarantined"]) == (2, 1, {"longer than 2000 bytes": 1})


def inspected(folder: Path) -> list[str]:
    """Return the rows of a dataset folder as JSON lines, without another process."""
    lines: list[str] = []
    run(Inspect(path=str(folder), format="jsonl", limit=0), Context(write=lines.append))
    return "".join(lines).splitlines()


def tar(mode: str) -> bytes:
    """An archive whose members lie outside, are links out, and devices."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:
        for name in ("../canary", "/tmp/gptctl-canary"):
            member = tarfile.TarInfo(name)
            member.size = 6
            archive.addfile(member, io.BytesIO(b"canary"))
        for kind, target in ((tarfile.SYMTYPE, "../../.."), (tarfile.CHRTYPE, "")):
            member = tarfile.TarInfo("member")
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("../canary", "canary")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "make"),
    [("x.tar", lambda: tar("w")), ("x.tar.gz", lambda: tar("w:gz")), ("x.tgz", lambda: tar("w:gz")), ("x.zip", zipped)],
)
def test_archives(name: str, make: Callable[[], bytes], tmp_path: Path, gptctl: Gptctl) -> None:
    """They are not unpacked, and not taken for text."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(make())
    expect(gptctl("clean", "in", "-o", "out", *ALONE), 3, name, "an archive: unpack it first")
    assert_unfinished(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert not Path("/tmp/gptctl-canary").exists()


def test_names(tmp_path: Path, gptctl: Gptctl) -> None:
    """Ids are no paths; a line end or an escape in a file's name stays within its line; other encodings are refused."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "new\nline\x1b[31m.txt").write_text(f"{TEXT} in a file")
    (tmp_path / "in" / "a.jsonl").write_text(
        "".join(
            json.dumps({"id": name, "text": f"{TEXT} {name}"}) + "\n" for name in ("../../canary", "/canary", "a\nb")
        )
    )
    done = gptctl("clean", "in", "-o", "deep/out", *ALONE)
    assert done.code == 0, done.err
    assert_whole(tmp_path / "deep" / "out")
    ids = [json.loads(line)["id"] for line in inspected(tmp_path / "deep" / "out")]
    assert ids == ["../../canary", "/canary", "a\nb", "new\nline\x1b[31m.txt"]
    assert sorted(path.name for path in tmp_path.rglob("*") if "canary" in path.name) == []
    (tmp_path / "in" / "new\nline\x1b[31m.txt").write_bytes(b"\0\1\2\xff")
    refused = gptctl("clean", "in", "-o", "other", *ALONE, "--set", "max_bad_records=0")
    expect(refused, 3, "new line\\x1b[31m.txt")
    assert "\x1b" not in refused.err
    with open(os.fsencode(tmp_path / "in") + b"/caf\xe9.txt", "w") as file:  # noqa: PTH123
        file.write(TEXT)
    expect(gptctl("clean", "in", "-o", "third", *ALONE), 3, "name is not UTF-8: in/caf\\xe9.txt")
    expect(gptctl("clean", "in", "-o", os.fsdecode(b"caf\xe9"), *ALONE), 2, "an argument is not UTF-8: caf\\xe9")


def lines_of(count: int) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in documents(count))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cut.jsonl.gz", lambda: gzip.compress(lines_of(50))[:-20]),
        ("rest.jsonl.gz", lambda: gzip.compress(lines_of(50)) + b"garbage" * 9),
        ("plain.jsonl.gz", lambda: lines_of(2)),
        ("cut.txt.zst", lambda: pa.compress(os.urandom(9999), codec="zstd", asbytes=True)[:-50]),
    ],
)
def test_damaged_compression(name: str, make: Callable[[], bytes], tmp_path: Path, gptctl: Gptctl) -> None:
    (tmp_path / name).write_bytes(make())
    expect(gptctl("clean", name, "-o", "out", *ALONE), 3, name)
    assert_unfinished(tmp_path / "out")


def squeeze(path: Path, codec: str, times: int) -> None:
    """Write that many MiB of blanks, which take next to no room."""
    with pa.CompressedOutputStream(str(path), codec) as out:
        for _ in range(times):
            out.write(b" " * 2**20)


def peak_bytes(source: Path, out: Path, *more: str) -> int:
    """Clean a folder in a process of its own; give the most memory that it had."""
    command = [sys.executable, "-m", "gptctl", "clean", str(source), "-o", str(out), "-q", *ALONE, *more]
    process = os.posix_spawn(sys.executable, command, plain_environment())
    _, status, used = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return used.ru_maxrss * 1024


@pytest.mark.slow
def test_huge_records_and_bombs(tmp_path: Path) -> None:
    """A line of 2 GB, a text of 500 MB, ten million empty lines, and kilobytes that unpack to gigabytes: counted and
    quarantined, in the memory that one good document takes and 64 MiB; on disk, nothing of them."""
    for folder in ("one", "in"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "good.jsonl").write_text(json.dumps({"text": TEXT}))
    for name, size in (("line.jsonl", 2 * 2**30), ("doc.txt", 500 * 2**20)):
        with (tmp_path / "in" / name).open("wb") as file:
            file.truncate(size)
    (tmp_path / "in" / "empty.jsonl").write_bytes(b"\n" * 10**7)
    squeeze(tmp_path / "in" / "bomb.jsonl.gz", "gzip", 400)
    squeeze(tmp_path / "in" / "bomb.txt.zst", "zstd", 2000)
    squeeze(tmp_path / "in" / "bomb.html.bz2", "bz2", 200)
    least = peak_bytes(tmp_path / "one", tmp_path / "least")
    most = peak_bytes(tmp_path / "in", tmp_path / "out", "--set", "max_bad=1")
    assert most < least + BOMB_BYTES, (most, least)
    found = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert {entry["file"] for entry in found} == {path.name for path in (tmp_path / "in").iterdir()} - {
        "good.jsonl",
        "empty.jsonl",
    }
    assert {entry["reason"] for entry in found} == {"longer than 16777216 bytes"}
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) < 2**20
    assert_whole(tmp_path / "out")
