"""The chain through folders and through pipes, with any number of workers: always the same bytes."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from gptctl.io.dataset import manifest
from tests.conftest import REPO, Ran, documents, tree_bytes, warm, write_jsonl

Gptctl = Callable[..., Ran]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of several shard tasks: two JSON-lines files over 1 MiB and some pages."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    folder.mkdir()
    rows = documents(400, words=900)
    write_jsonl(folder / "a.jsonl", [row | {"kind": "reference", "number": i} for i, row in enumerate(rows[:250])])
    write_jsonl(folder / "b.jsonl", [row | {"number": None} for row in rows[250:]])
    for i in range(3):
        (folder / f"page{i}.html").write_text(f"<html><body><h1>Page {i}</h1><p>{rows[i]['text']}</p></body></html>")
    return folder


def shell(script: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    script = script.replace("gptctl ", f"{shlex.join(warm('gptctl'))} ")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=cwd,
        capture_output=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )


def test_pipes_and_workers_give_the_same_bytes_as_folders(raw: Path, tmp_path: Path) -> None:
    script = f"""
    gptctl clean {raw} -o clean1 --workers 1 && gptctl dedup clean1 -o unique1 --workers 1 && gptctl tokenize unique1 -o tokens1 --vocab-size 400 --workers 1
    gptctl clean {raw} -o clean2 --workers 2 && gptctl dedup clean2 -o unique2 --workers 2 && gptctl tokenize unique2 -o tokens2 --vocab-size 400 --workers 2
    gptctl clean {raw} -o - --workers 1 | gptctl dedup - -o - --workers 1 | gptctl tokenize - -o tokens3 --vocab-size 400 --workers 1
    gptctl clean {raw} -o - --workers 2 | gptctl dedup - -o - --workers 2 | gptctl tokenize - -o tokens4 --vocab-size 400 --workers 2
    """
    done = shell(script, tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert tree_bytes(tmp_path / "clean1") == tree_bytes(tmp_path / "clean2")
    assert tree_bytes(tmp_path / "unique1") == tree_bytes(tmp_path / "unique2")
    assert tree_bytes(tmp_path / "tokens1") == tree_bytes(tmp_path / "tokens2")
    for piped in ("tokens3", "tokens4"):
        assert tree_bytes(tmp_path / piped, "shards", "tokenizer.json") == tree_bytes(
            tmp_path / "tokens1", "shards", "tokenizer.json"
        )
    assert len(manifest.read(tmp_path / "clean1").shards) > 2
    left = 403
    for folder in ("clean1", "unique1", "tokens1"):
        counts = manifest.read(tmp_path / folder).counts
        assert counts.balanced()
        assert counts.documents_in == left
        left = counts.kept


@pytest.mark.slow
def test_a_stream_into_a_folder_gives_that_folder(raw: Path, tmp_path: Path) -> None:
    done = shell(
        f"gptctl clean {raw} -o clean && gptctl clean {raw} -o - | gptctl dedup - -o piped && gptctl dedup clean -o unique",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert tree_bytes(tmp_path / "piped", "shards", "clusters") == tree_bytes(tmp_path / "unique", "shards", "clusters")
    again = f"gptctl clean {raw} -o - | gptctl dedup - -o piped --json"
    assert json.loads(shell(again, tmp_path).stdout)["status"] == "up to date"
    other = shell(f"gptctl clean {raw / 'a.jsonl'} -o - | gptctl dedup - -o piped", tmp_path)
    assert other.returncode == 5
    assert b"made from other input" in other.stderr


def test_limit_reads_the_first_documents(raw: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    assert gptctl("clean", raw, "-o", "some", "--limit", "260").code == 0
    assert manifest.read(tmp_path / "some").counts.documents_in == 260


def test_other_tools_open_a_dataset_folder(
    raw: Path, tmp_path: Path, gptctl: Gptctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gptctl("clean", raw, "-o", "clean").code == 0
    files = sorted(str(path) for path in (tmp_path / "clean" / "shards").glob("*.arrow"))
    kept = manifest.read(tmp_path / "clean").counts.kept
    import pyarrow.dataset

    assert pyarrow.dataset.dataset(files, format="ipc").to_table()["text"].null_count == 0
    assert pyarrow.dataset.dataset(files, format="ipc").count_rows() == kept
    import polars

    frame = polars.concat([polars.read_ipc(path) for path in files])
    assert frame.height == kept
    assert {"id", "text", "source", "kind", "number"} <= set(frame.columns)
    import duckdb

    connection = duckdb.connect()
    connection.register("documents", pyarrow.dataset.dataset(files, format="ipc"))
    assert connection.execute("select count(distinct id) from documents").fetchone() == (kept,)
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == kept


def test_order_of_inputs_and_foreign_manifests(tmp_path: Path, gptctl: Gptctl) -> None:
    rows = documents(12)
    (tmp_path / "site").mkdir()
    write_jsonl(tmp_path / "site" / "a.jsonl", rows[:6])
    write_jsonl(tmp_path / "b.jsonl", rows[6:])
    (tmp_path / "site" / "manifest.json").write_text('{"name": "a web app", "text": "of fair length to be kept"}')
    (tmp_path / "site" / "run.json").write_text('["nothing of ours, but text"]')
    done = gptctl("clean", "site", "b.jsonl", "-o", "one", "--set", "max_bad=0.2", "--json")
    assert done.code == 0, done.err
    assert (done.json["counts"]["kept"], done.json["counts"]["quarantined"]) == (13, {"not an object": 1})
    swapped = gptctl("clean", "b.jsonl", "site", "-o", "one", "--set", "max_bad=0.2")
    assert (swapped.code, "the order" in swapped.err) == (5, True)


def test_columns_that_differ_between_files_are_unified(tmp_path: Path, gptctl: Gptctl) -> None:
    text = "some text of a fair length"
    write_jsonl(tmp_path / "a.jsonl", [{"text": text, "n": 1, "reason": "kept as it is"}, {"text": "x", "n": 2}])
    write_jsonl(tmp_path / "b.jsonl", [{"text": text, "n": "z", "more": {"k": [1]}}])
    done = gptctl("clean", "a.jsonl", "b.jsonl", "-o", "out", "--keep-rejects")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in gptctl("inspect", "out", "--format", "jsonl").out.splitlines()]
    assert [row["n"] for row in rows] == ["1", "z"]
    assert rows[0]["reason"] == "kept as it is"
    assert rows[1]["more"] == {"k": [1]}
    rejects = pa.ipc.open_file(str(tmp_path / "out" / "rejects" / "part-00000.arrow")).read_all()
    assert rejects["reason"].to_pylist() == ["length.min_chars"]


def test_limit_with_columns_of_other_names_and_late_bad_lines(tmp_path: Path, gptctl: Gptctl) -> None:
    rows = [{"url": f"u{i}", "body": f"document number {i} of fair length"} for i in range(50)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.jsonl").write_text((tmp_path / "a.jsonl").read_text() + "broken\n")
    done = gptctl("clean", "a.jsonl", "-o", "out", "--limit", "2", "--text-column", "body", "--id-column", "url")
    assert done.code == 0, done.err
    shown = gptctl("inspect", "out", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["id"] for line in shown] == ["u0", "u1"]


def test_another_tokenizer_under_the_same_name_is_noticed(raw: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    for size in (300, 310):
        assert gptctl("tokenize", raw, "-o", "made", "--vocab-size", size, "--limit", "20", "--force").code == 0
        done = gptctl("tokenize", raw, "-o", "again", "--tokenizer", "made/tokenizer.json", "--limit", "20")
        assert done.code == (0 if size == 300 else 5), done.err
    assert "tokenizer" in done.err
    assert str(tmp_path) not in (tmp_path / "again" / "manifest.json").read_text()
