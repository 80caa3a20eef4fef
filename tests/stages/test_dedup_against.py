"""dedup of new documents against old ones, which stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.text.dedup.shingles import Shingling
from tests.conftest import Ran, read_jsonl, tree_bytes, write_jsonl
from tests.stages.deduped import (
    THRESHOLD,
    cluster_table,
    corpus,
    dedup,
    kept,
    reference,
)
from tests.text.dedup import plain

Gptctl = Callable[..., Ran]


def untouched(*paths: Path) -> dict[str, tuple[int, bytes]]:
    """The bytes and the times of files and of all files in folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files if file.is_file()}


def test_against_what_was_there_before(raw: Path, texts: dict[str, str], tmp_path: Path, gptctl: Gptctl) -> None:
    """What OLD has goes from NEW as if both were deduplicated together, OLD first; OLD stays as it is."""
    rows = read_jsonl(raw)
    write_jsonl(tmp_path / "first.jsonl", rows[:400])
    write_jsonl(tmp_path / "second.jsonl", rows[400:700])
    write_jsonl(tmp_path / "new.jsonl", rows[700:])
    dedup(tmp_path / "first.jsonl", out=tmp_path / "old1")
    dedup(tmp_path / "second.jsonl", out=tmp_path / "old2", against=(str(tmp_path / "old1"),))
    before = untouched(tmp_path / "old1", tmp_path / "old2")
    done = gptctl("dedup", "new.jsonl", "--against", "old1,old2", "-o", "added", "--json", "--workers", "2")
    assert done.code == 0, done.err
    assert untouched(tmp_path / "old1", tmp_path / "old2") == before
    old = {row["id"] for folder in ("old1", "old2") for row in kept(tmp_path / folder)}
    added = kept(tmp_path / "added")
    dedup(tmp_path / "old1", tmp_path / "old2", tmp_path / "new.jsonl", out=tmp_path / "together")
    assert [row["text"] for row in kept(tmp_path / "together")][len(old) :] == [row["text"] for row in added]
    table = cluster_table(tmp_path / "added")
    gone = {name: row for name, row in table.items() if row["verdict"] == "in_against"}
    assert done.json["counts"]["dropped"]["in_against"] == len(gone) > 100
    assert all(row["survivor"] in old and row["similarity"] >= THRESHOLD for row in gone.values())
    assert all(
        row["similarity"] == pytest.approx(plain.jaccard(texts[name], texts[row["survivor"]], Shingling()))
        for name, row in gone.items()
        if texts[name] != texts[row["survivor"]]
    )
    assert not old & set(table) and "- in_against" in done.err
    # Files do as well as folders, in any number, and the order of OLD and NEW documents stays.
    write_jsonl(tmp_path / "old.jsonl", [row | {"text": texts[row["id"]]} for row in rows if row["id"] in old])
    dedup(tmp_path / "new.jsonl", out=tmp_path / "files", against=(str(tmp_path / "old.jsonl"),))
    assert tree_bytes(tmp_path / "files", "shards") == tree_bytes(tmp_path / "added", "shards")


def test_against_comes_before_any_policy(tmp_path: Path) -> None:
    """A longer or better document goes too where OLD has its like, also by a chain of documents that go."""
    words = [word for word in " ".join(reference()).split() if word.isalpha()]
    chain = [{"id": f"d{n}", "text": " ".join(words[8 * n : 8 * n + 150]) + " longer" * n} for n in range(3)]
    write_jsonl(tmp_path / "old.jsonl", [chain[0], {"id": "x", "text": "Too short."}])
    write_jsonl(tmp_path / "new.jsonl", [*chain[1:], {"id": "y", "text": "Too short."}, {"id": "z", "text": "Other."}])
    against = (str(tmp_path / "old.jsonl"),)
    found = dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=against, keep="longest", num_perm=256, bands=64)
    assert [row["id"] for row in kept(tmp_path / "out")] == ["d2", "z"]
    assert found.counts.dropped == {"in_against": 2}
    assert found.metrics["clusters"] == {"2": 1, "3": 1}
    assert {size: sample for _, size, sample in found.metrics["largest"]}[3].startswith(chain[1]["text"][:20])
    assert cluster_table(tmp_path / "out")["d2"]["verdict"] == "survivor"


def test_against_what_cannot_be_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new.jsonl", corpus()[:20])
    write_jsonl(tmp_path / "old.jsonl", [{"rubric": "a column of another name"}] * 3)
    write_jsonl(tmp_path / "half.jsonl", [{"text": "of fair length"}, {"rubric": "a column of another name"}])
    (tmp_path / "empty.jsonl").write_text("")
    for method in ("minhash", "lines"):
        for name, wanted in (("old", "it has: rubric"), ("half", "1 of 2 records"), ("empty", "no document")):
            against = (str(tmp_path / f"{name}.jsonl"),)
            with pytest.raises(DataError, match=wanted):
                dedup(
                    tmp_path / "new.jsonl", out=tmp_path / f"{name}-{method}", against=against, method=method,
                    max_bad_records=0,
                )  # fmt: skip
    assert dedup(tmp_path / "new.jsonl", out=tmp_path / "half", against=(str(tmp_path / "half.jsonl"),))
    for place, wanted in (("-", "--against cannot be a pipe"), (f"{tmp_path}/nowhere", "no such file or folder")):
        with pytest.raises(UsageError, match=wanted):
            dedup(tmp_path / "new.jsonl", out=tmp_path / "out", against=(place,))


def test_against_texts_in_a_column_of_a_usual_name(tmp_path: Path, gptctl: Gptctl) -> None:
    rows = corpus()[:20]
    write_jsonl(tmp_path / "new.jsonl", rows)
    write_jsonl(tmp_path / "old.jsonl", [{"prompt": row["text"], "n": 1} for row in rows[:5]])
    done = gptctl("dedup", "new.jsonl", "-o", "out", "--against", "old.jsonl", "--method", "exact", "--json")
    assert "--against: the texts are in column 'prompt' of old.jsonl" in done.err
    assert done.json["counts"]["dropped"]["in_against"] == 5
    write_jsonl(tmp_path / "other.jsonl", [{"text": "A text that is in no other file."}])
    done = gptctl("dedup", "new.jsonl", "-o", "all", "--against", "other.jsonl", "--method", "exact")
    assert (done.code, "no document is a duplicate of one of --against" in done.err) == (0, True), done.err


def test_the_output_lies_outside_of_what_was_there_before(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new.jsonl", corpus()[:20])
    (tmp_path / "old").mkdir()
    write_jsonl(tmp_path / "old" / "a.jsonl", corpus()[20:30])
    with pytest.raises(UsageError, match="lies inside"):
        dedup(tmp_path / "new.jsonl", out=tmp_path / "old" / "new", against=(f"{tmp_path}/old",))
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["a.jsonl"]
