"""dedup with datasketch's index, in memory and in a real Redis server."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran, read_jsonl, run_gptctl, tree_bytes, write_jsonl
from tests.stages.deduped import (
    Row,
    cluster_table,
    corpus,
    dedup,
    kept,
    same_documents,
)
from tests.text.dedup import redis_server

Gptctl = Callable[..., Ran]


@pytest.mark.slow
def test_an_index_in_memory(raw: Path, texts: dict[str, str], tmp_path: Path, gptctl: Gptctl) -> None:
    """What datasketch finds goes, uncompared; the first stays; the same bytes for any workers."""
    done = gptctl("dedup", raw, "-o", "out", "--index", "datasketch", "--workers", "2", "--json")
    assert done.code == 0, done.err
    dedup(raw, out=tmp_path / "one", index="datasketch")
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "out")
    table = cluster_table(tmp_path / "out")
    places = {name: place for place, name in enumerate(texts)}
    stayed = {row["id"] for row in kept(tmp_path / "out")}
    for name, row in table.items():
        if row["verdict"] != "survivor":
            assert row["survivor"] in stayed and places[row["survivor"]] < places[name] and row["similarity"] is None
    counts, metrics = done.json["counts"], done.json["metrics"]
    assert counts["kept"] == len(stayed) == len(texts) - metrics["candidates"]
    assert "false_positives" not in metrics and "largest clusters:" in done.err
    assert len(texts) > dedup(raw, out=tmp_path / "sorted", verify=False).counts.kept > len(stayed) - 20


def test_an_index_in_redis(raw: Path, redis_url: str, tmp_path: Path, gptctl: Gptctl) -> None:
    """A later run finds what an earlier one inserted; the same run again finds its own documents, not as duplicates."""
    rows = read_jsonl(raw)
    days = [tmp_path / day / "part.jsonl" for day in ("monday", "tuesday")]
    for path, part in zip(days, (rows[:700], [*rows[:200], *rows[700:]]), strict=True):
        path.parent.mkdir()
        write_jsonl(path, part)
    command = ("--index", "datasketch", "--set", f"redis={redis_url}", "--set", "redis_name=days")
    first = gptctl("dedup", days[0], "-o", "first", *command, "--json", "--workers", "2")
    assert first.code == 0, first.err
    dedup(days[0], out=tmp_path / "alone", index="datasketch")
    assert same_documents(tmp_path / "first", tmp_path / "alone")
    settings: Row = {"index": "datasketch", "redis": redis_url, "redis_name": "days"}
    again = dedup(days[0], out=tmp_path / "again", **settings)
    assert again.counts.to_json() == first.json["counts"]
    assert tree_bytes(tmp_path / "again") == tree_bytes(tmp_path / "first")
    second = dedup(days[1], out=tmp_path / "second", **settings)
    dropped = second.counts.dropped
    assert dropped["in_index"] > 200
    dedup(*days, out=tmp_path / "together", index="datasketch")
    together = [row["id"] for row in kept(tmp_path / "together")]
    assert together == [row["id"] for row in kept(tmp_path / "first") + kept(tmp_path / "second")]
    verdicts = [row for row in cluster_table(tmp_path / "second").values() if row["verdict"] == "in_index"]
    assert len(verdicts) == dropped["in_index"]
    assert {(row["survivor"], row["similarity"]) for row in verdicts} == {(None, None)}
    secrets = (redis_server.PASSWORD.encode(), redis_url.split("@")[0].rpartition(":")[2].encode())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not any(secret in path.read_bytes() for secret in secrets), path


@pytest.mark.slow
def test_an_index_in_redis_survives_a_kill(raw: Path, redis_url: str, tmp_path: Path) -> None:
    """What was inserted before the kill is no duplicate of itself."""
    dedup(raw, out=tmp_path / "whole", index="datasketch")
    for operation in (8, 20):
        command = ("dedup", raw, "-o", f"cut{operation}", "--index", "datasketch", "--workers", "1",
                   "--set", f"redis={redis_url}", "--set", f"redis_name=kill{operation}")  # fmt: skip
        killed = run_gptctl(*command, cwd=tmp_path, fault=f"kill:{operation}")
        assert killed.code == -signal.SIGKILL
        assert run_gptctl(*command, cwd=tmp_path).code == 0
        assert same_documents(tmp_path / f"cut{operation}", tmp_path / "whole")


def test_a_redis_that_is_not_there(tmp_path: Path, gptctl: Gptctl) -> None:
    """Nobody listens, nobody answers, and what is no URL."""
    pytest.importorskip("redis")
    write_jsonl(tmp_path / "a.jsonl", corpus()[:5])
    for url, code, wanted in (
        ("redis://:hush@127.0.0.1:1/0", 4, "Redis at 127.0.0.1:1/0 failed"),
        ("http://:hush@localhost", 2, "is not the URL of a Redis server"),
    ):
        done = gptctl("dedup", "a.jsonl", "-o", "out", "--index", "datasketch", "--set", f"redis={url}")
        assert (done.code, len(done.error_lines)) == (code, 2) and wanted in done.err, done.err
        assert "hush" not in done.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hush" not in path.read_bytes(), path
