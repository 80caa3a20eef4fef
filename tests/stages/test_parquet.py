"""Documents as Parquet: the same rows as Arrow, the same bytes however they are made, and other programs open them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import gptctl as api
from gptctl.io.dataset import manifest
from tests.conftest import Ran, documents, tree_bytes, write_jsonl
from tests.faults.harness import assert_whole, flip
from tests.stages.test_chain import shell

Gptctl = Callable[..., Ran]
STEPS = {"clean": ("clean", "--keep-rejects"), "unique": ("dedup", "--label-column", "label"),
         "parts": ("split", "--stratify", "label", "--val", "0.2", "--test", "0.2")}  # fmt: skip


def rows(count: int, words: int = 60) -> list[dict[str, Any]]:
    """Documents with labels, numbers, lists and objects, some of which come late, and some that are too short."""
    found: list[dict[str, Any]] = []
    for i, row in enumerate(documents(count, words)):
        found.append(row | {"label": "ab"[i % 2], "n": i, "tags": [{"k": "v"}] * (i % 3), "meta": {}})
        if i % 9 == 0:
            found.append({"id": f"short{i}", "text": "short"})
        if i > count // 2:
            found[-1]["late"] = {"score": i / 2}
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clean, unique and parts of one corpus of several shards, below arrow/ and parquet/."""
    folder = tmp_path_factory.mktemp("parquet")
    write_jsonl(folder / "raw.jsonl", rows(160, 2500))
    for name in ("arrow", "parquet"):
        common: dict[str, Any] = {"format": name, "executor": "serial", "workers": 1}
        out = folder / name
        api.clean(folder / "raw.jsonl", out=out / "clean", keep_rejects=True, **common)
        api.dedup(out / "clean", out=out / "unique", **common)
        api.split(out / "unique", out=out / "parts", stratify="label", val=0.2, test=0.2, **common)
    return folder


def test_the_rows_of_arrow(made: Path) -> None:
    """Each command has the rows, columns and types that it has with Arrow; an object without keys is a text."""
    for name in STEPS:
        arrow, parquet = (api.Dataset(made / form / name) for form in ("arrow", "parquet"))
        assert {Path(shard.path).suffix for shard in parquet.manifest.shards} == {".parquet"}
        assert len(parquet.manifest.shards) > 1
        assert parquet.counts == arrow.counts
        tables = [dataset.to_arrow() for dataset in (arrow, parquet)]
        assert [dict(row, meta="{}") for row in tables[0].to_pylist()] == tables[1].to_pylist()
        fields = [[field for field in table.schema if field.name != "meta"] for table in tables]
        assert fields[0] == fields[1]
        assert "late" in tables[1].column_names
    assert not list((made / "parquet").rglob("*.arrow"))
    for aside in ("clean/rejects", "unique/clusters"):
        assert list((made / "parquet" / aside).glob("*.parquet"))


def test_other_programs_open_it(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB, polars and datasets see the same rows, columns and types."""
    import datasets
    import duckdb
    import polars

    table = api.Dataset(made / "parquet" / "unique").to_arrow()
    pattern = str(made / "parquet" / "unique" / "shards" / "*.parquet")
    frame = polars.read_parquet(pattern)
    assert frame.equals(polars.from_arrow(table))
    read = f"read_parquet('{pattern}', filename=true, file_row_number=true)"
    columns = "* exclude (filename, file_row_number)"
    found = duckdb.sql(f"select {columns} from {read} order by filename, file_row_number").to_arrow_table()
    assert found.to_pylist() == table.to_pylist()
    text = table.schema.get_field_index("text")
    assert found.schema.types == table.schema.set(text, pa.field("text", pa.string())).types
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(tmp_path))
    assert loaded.to_list() == table.to_pylist()
    assert loaded.features == datasets.Features.from_arrow_schema(table.schema)


def test_every_reader_of_documents(made: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    """inspect, doctor, report and the commands that follow, of folders, splits, asides and single files."""
    parts = made / "parquet" / "parts"
    counts = manifest.read(made / "parquet" / "clean").counts
    for path, count in (
        (parts, manifest.read(parts).counts.kept),
        (made / "parquet" / "clean" / "rejects", counts.dropped.total()),
        (parts / "shards" / "val" / "part-00000.parquet", manifest.read(parts).of_split("val")[0].rows),
    ):
        done = gptctl("inspect", path, "--format", "jsonl", "--limit", "0")
        assert done.code == 0, done.err
        assert len(done.out.splitlines()) == count
    assert gptctl("doctor", parts).code == 0
    (parts / "shards" / "stray.parquet").write_bytes(b"")
    assert b"not in the manifest, so not read: shards/stray.parquet" in gptctl("doctor", parts).out
    (parts / "shards" / "stray.parquet").unlink()
    assert gptctl("report", made / "parquet" / "clean", "-o", "r.html").code == 0
    assert "dropped: length.min_chars" in (tmp_path / "r.html").read_text()
    done = gptctl("tokenize", parts, "-o", "tokens", "--vocab-size", "300", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["kept"] == manifest.read(parts).counts.kept
    assert gptctl("clean", parts / "shards" / "val", "-o", "again", "--preset", "none").code == 0


def test_damage_is_found(made: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made / "parquet" / "unique", tmp_path / "unique")
    flip(tmp_path / "unique" / "shards" / "part-00001.parquet")
    for words in (
        ("clean", "unique", "-o", "a"),
        ("split", "unique", "-o", "b"),
        ("inspect", "unique", "--limit", "0"),
    ):
        done = gptctl(*words)
        assert done.code == 3, done.err
        assert "checksum mismatch: unique/shards/part-00001.parquet" in done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("-o made", 5, "made was made with other settings: format (was 'parquet', now 'arrow')"),
        ("-o made --format parquet --set compression=gzip", 5, "compression (was 'auto', now 'gzip')"),
        ("-o - --format parquet", 2, "--format has no effect with -o -: a pipe is always Arrow"),
        (
            "-o b --set compression=snappy",
            2,
            "compression snappy is for --format parquet; arrow has zstd, lz4 and none",
        ),
        ("-o b.parquet", 2, "names a file, but this command writes a folder: use -o b --format parquet"),
    ],
)
def test_refused(words: str, code: int, said: str, gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", rows(9))
    if code == 5:
        assert gptctl("clean", "raw.jsonl", "-o", "made", "--format", "parquet").code == 0
        assert (
            gptctl("clean", "raw.jsonl", "-o", "made", "--format", "parquet", "--json").json["status"] == "up to date"
        )
    done = gptctl("clean", "raw.jsonl", *words.split())
    assert (done.code, said in done.err) == (code, True), done.err


def test_killed_and_run_again(made: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    command = (
        "clean",
        made / "raw.jsonl",
        "-o",
        "out",
        "--format",
        "parquet",
        "--keep-rejects",
        "--executor",
        "serial",
    )
    assert gptctl(*command, fault="kill:20").code == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").glob("*.parquet")}
    assert kept
    assert gptctl(*command).code == 0
    assert_whole(tmp_path / "out")
    assert tree_bytes(tmp_path / "out", "shards", "rejects") == tree_bytes(
        made / "parquet" / "clean", "shards", "rejects"
    )


def test_generated_samples(workspace: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    words = ("generate", workspace / "run", "--prompts", workspace / "prompts.jsonl", "--max-tokens", "3")
    for name in ("arrow", "parquet"):
        done = gptctl(*words, "-o", name, "--format", name, "--logprobs", "--device", "cpu")
        assert done.code == 0, done.err
    tables: list[pa.Table] = [api.Dataset(tmp_path / name).to_arrow() for name in ("arrow", "parquet")]
    assert tables[0].equals(tables[1])
    assert [shard.path for shard in api.Dataset(tmp_path / "parquet").manifest.shards] == ["shards/part-00000.parquet"]


@pytest.mark.slow
def test_the_same_bytes_however_it_is_made(made: Path, tmp_path: Path) -> None:
    """Serial, with two processes, and from a pipe; the inputs Arrow or Parquet."""
    raw = made / "raw.jsonl"
    plain = write_jsonl(tmp_path / "plain.jsonl", [row for row in rows(160, 2500) if row.pop("late", True)])
    script = f"""
    gptctl clean {raw} -o clean --format parquet --keep-rejects --workers 2
    gptctl dedup {made}/arrow/clean -o unique1 --format parquet --workers 2
    gptctl clean {plain} -o clean2 --workers 2
    gptctl dedup clean2 -o unique2 --format parquet --workers 2
    gptctl clean {plain} -o - --workers 2 | gptctl dedup - -o unique3 --format parquet --workers 2
    gptctl dedup {made}/arrow/unique -o again1 --format parquet --method lines --workers 1
    gptctl dedup {made}/parquet/unique -o again2 --format parquet --method lines --workers 2
    """
    done = shell(script.strip().replace("\n", " &&\n"), tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert tree_bytes(tmp_path / "clean") == tree_bytes(made / "parquet" / "clean")
    for one, other in (
        (made / "parquet" / "unique", tmp_path / "unique1"),
        (tmp_path / "unique2", tmp_path / "unique3"),
        (tmp_path / "again1", tmp_path / "again2"),
    ):
        assert tree_bytes(one, "shards", "clusters") == tree_bytes(other, "shards", "clusters")


@pytest.mark.slow
def test_datasets_loads_a_folder_with_its_card(made: Path, gptctl: Gptctl, tmp_path: Path) -> None:
    import shutil

    from datasets import load_dataset

    shutil.copytree(made / "parquet" / "parts", tmp_path / "parts")
    assert gptctl("report", "parts", "--card", "--license", "mit").code == 0
    shutil.copy(tmp_path / "dataset-card.md", tmp_path / "parts" / "README.md")
    loaded = load_dataset(str(tmp_path / "parts"), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == {
        name: sum(shard.rows for shard in manifest.read(tmp_path / "parts").of_split(name))
        for name in ("train", "val", "test")
    }
    assert json.loads(loaded["train"][0]["meta"]) == {}
