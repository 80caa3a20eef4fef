"""Text and tables in other encodings and dialects, through the commands: read, recorded in a column, counted, warned of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran, write_jsonl
from tests.io.input.udhr import ARTICLE_1

Gptctl = Callable[..., Ran]
QUICK = ("--preset", "none", "--set", "identify_language=false")
TEXTS = {language: ARTICLE_1[language][1] for language in ("French", "Ukrainian", "Japanese", "German")}


def rows(gptctl: Gptctl, folder: str) -> list[dict[str, str]]:
    """Return the rows of a dataset."""
    done = gptctl("inspect", folder, "--limit", "0", "--format", "jsonl")
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder of notes, of which two are not UTF-8 and one is no text."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, language, encoding in (
        ("a.md", "German", "utf-8"), ("b.txt", "French", "cp1252"), ("c.txt", "Ukrainian", "koi8-u"),
        ("d.txt", "Japanese", "utf-8"),
    ):  # fmt: skip
        (folder / name).write_bytes(TEXTS[language].encode(encoding))
    (folder / "e.txt").write_bytes(bytes(range(256)))
    return folder


def test_a_few_files_in_other_encodings_stop_nobody(notes: Path, gptctl: Gptctl) -> None:
    """One unreadable file of five is quarantined with a warning; the dry run says the same."""
    planned = gptctl("clean", notes, "-o", "out", *QUICK, "--dry-run")
    done = gptctl("clean", notes, "-o", "out", *QUICK, "--json")
    for ran in (planned, done):
        assert ran.code == 0, ran.err
        assert "1 of 5 records are unreadable (most often: binary, or in an unknown encoding" in ran.err
        assert "was read as cp1252 (1), koi8-u (1): see the column 'encoding'" in ran.err
    counts = done.json["counts"]
    assert (counts["in"], counts["kept"], counts["encodings"]) == (5, 4, {"cp1252": 1, "koi8-u": 1})
    found = rows(gptctl, "out")
    assert [row["text"] for row in found] == [TEXTS[name] for name in ("German", "French", "Ukrainian", "Japanese")]
    assert [row["encoding"] for row in found] == [None, "cp1252", "koi8-u", None]
    assert json.loads((notes.parent / "out" / "quarantine.jsonl").read_text())["file"] == "e.txt"


def test_text_in_seven_bits(tmp_path: Path, gptctl: Gptctl) -> None:
    """HZ and ISO-2022 look like ASCII: they are known by their escape sequences, and recorded."""
    folder = tmp_path / "mail"
    folder.mkdir()
    chinese = "这是一个很长的句子，用来测试旧的编码。"
    (folder / "a.txt").write_bytes(chinese.encode("hz"))
    (folder / "b.csv").write_bytes(f"text,label\n{chinese},a\n".encode("hz"))
    (folder / "c.txt").write_bytes(TEXTS["Japanese"].encode("iso2022_jp"))
    (folder / "d.txt").write_bytes(b"a line of ~{ASCII}\n")
    done = gptctl("clean", "mail", "-o", "out", *QUICK, "--json")
    assert done.code == 0 and "was read as hz (2), iso2022_jp (1)" in done.err, done.err
    texts = [(row["text"], row["encoding"]) for row in rows(gptctl, "out")]
    assert texts == [
        (chinese, "hz"), (chinese, "hz"), (TEXTS["Japanese"], "iso2022_jp"), ("a line of ~{ASCII}", None)
    ]  # fmt: skip
    (tmp_path / "e.txt").write_bytes("Grüße".encode("utf-7"))
    assert gptctl("clean", "e.txt", "-o", "seven", *QUICK, "--set", "encoding=utf-7").code == 0
    assert [(row["text"], row["encoding"]) for row in rows(gptctl, "seven")] == [("Grüße", "utf-7")]


def test_through_a_pipe(notes: Path, gptctl: Gptctl) -> None:
    """The encodings are counted where the files are read, and only there."""
    first = gptctl("clean", notes, "-o", "-", *QUICK)
    assert "read as cp1252" in first.err
    second = gptctl("dedup", "-", "-o", "unique", "--method", "exact", "--json", stdin=first.out)
    assert "encodings" not in second.json["counts"]
    assert len(rows(gptctl, "unique")) == 4


def test_a_chosen_encoding(tmp_path: Path, gptctl: Gptctl) -> None:
    """For what is not UTF-8; where no file can need it, a warning says so."""
    (tmp_path / "a.txt").write_bytes("Grüße".encode("cp437"))
    assert gptctl("clean", "a.txt", "-o", "out", *QUICK, "--set", "encoding=cp437").code == 0
    assert [(row["text"], row["encoding"]) for row in rows(gptctl, "out")] == [("Grüße", "cp437")]
    write_jsonl(tmp_path / "b.jsonl", [{"text": "Grüße"}])
    done = gptctl("clean", "b.jsonl", "-o", "lines", *QUICK, "--set", "encoding=cp437", "--set", "csv.quote=none")
    assert "without effect: csv.quote, encoding" in done.err
    assert gptctl("clean", "a.txt", "-o", "none", "--set", "encoding=cp0").code == 2
    assert gptctl("clean", "a.txt", "-o", "none", "--set", "csv.delimiter=;;").code == 2


def test_an_excel_export(tmp_path: Path, gptctl: Gptctl) -> None:
    """Semicolons, Windows' encoding, commas in texts; errors name what was found."""
    lines = [f'{number};"{TEXTS["German"]}, Nr. {number}";{"ab"[number % 2]}' for number in range(20)]
    (tmp_path / "a.csv").write_bytes("\r\n".join(["id;body;label", *lines]).encode("cp1252"))
    refused = gptctl("clean", "a.csv", "-o", "out", *QUICK)
    assert refused.code == 3
    assert "no column 'text'; it has: id, body, label (separated by ';')" in refused.err
    done = gptctl("clean", "a.csv", "-o", "out", *QUICK, "--text-column", "body", "--json")
    assert done.json["counts"]["encodings"] == {"cp1252": 20}
    assert rows(gptctl, "out")[7]["text"] == f"{TEXTS['German']}, Nr. 7"
    wrong = gptctl(
        "clean", "a.csv", "-o", "out", *QUICK, "--text-column", "body", "--set", "csv.delimiter=,", "--force"
    )
    assert "it has: id;body;label (separated by ',')" in wrong.err
