"""tokenize through the real command line: encoders that agree, imports, one order for any workers, figures that add up."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.io.dataset import manifest, shards
from gptctl.io.dataset.manifest import Shard
from gptctl.pipeline import shuffle, sorted_runs
from gptctl.text.tokenization.gigatoken_encoder import EDGE_CASES, SCRIPTS
from gptctl.text.tokenizer import Tokenizer
from tests.conftest import Ran, documents, run_gptctl, tree_bytes, write_jsonl

Gptctl = Callable[..., Ran]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """raw.jsonl of several shard tasks with edge_case documents among real ones, and a tokenizer for each kind of rules."""
    folder = tmp_path_factory.mktemp("tokenize")
    rows = documents(420, words=900)
    for number, text in enumerate([*EDGE_CASES, *SCRIPTS]):
        rows.insert(number * 5, {"id": f"edge_case{number}", "text": text})
    write_jsonl(folder / "raw.jsonl", rows)
    for name in ("gpt2", "modern", "o200k"):
        run(folder, "tokenize", "raw.jsonl", "-o", name, "--vocab-size", "600", "--split-pattern", name)
    return folder


def run(folder: Path, *args: object, **environment: str) -> Ran:
    done = run_gptctl(*args, cwd=folder, **environment)
    assert done.code == 0, done.err
    return done


def rows_of(folder: Path, split: str) -> list[tuple[str, list[int]]]:
    found = manifest.read(folder)
    table = shards.read_rows(folder, found, split)
    return list(zip(table["doc_id"].to_pylist(), table["tokens"].to_pylist(), strict=True)) if len(table) else []


@pytest.mark.parametrize(
    "name", [pytest.param("gpt2", marks=pytest.mark.slow), "modern", pytest.param("o200k", marks=pytest.mark.slow)]
)
def test_encoders_workers_and_engines_give_the_same_bytes(made: Path, tmp_path: Path, name: str) -> None:
    metrics = manifest.read(made / name).metrics
    assert metrics["encoder"] == "gigatoken", metrics["why"]
    assert "same ids as tokenizers" in metrics["why"]
    cases = (
        ("tokenizers", 2, "processes"),
        ("auto", 1, "processes"),
        ("gigatoken", 3, "processes"),
        ("auto", 1, "serial"),
    )
    for number, (encoder, workers, engine) in enumerate(cases):
        out = tmp_path / str(number)
        run(
            made, "tokenize", "raw.jsonl", "-o", out, "--tokenizer", name, "--set", f"encoder={encoder}",
            "--workers", workers, "--executor", engine,
        )  # fmt: skip
        assert tree_bytes(out, "shards", "tokenizer.json") == tree_bytes(made / name, "shards", "tokenizer.json")
        assert manifest.read(out).metrics["encoder"] == ("tokenizers" if encoder == "tokenizers" else "gigatoken")


def test_the_spelling_of_end_of_text_stays_text(made: Path) -> None:
    tokenizer = Tokenizer.from_json((made / "gpt2" / "tokenizer.json").read_text())
    texts = {row["id"]: row["text"] for row in map(json.loads, (made / "raw.jsonl").read_text().splitlines())}
    spelled = {name for name, text in texts.items() if "<|endoftext|>" in text}
    assert spelled
    for split in ("train", "val", "test"):
        for name, ids in rows_of(made / "gpt2", split):
            spelled.discard(name)
            assert ids[-1] == tokenizer.end_of_text_id
            assert tokenizer.end_of_text_id not in ids[:-1]
            assert tokenizer.decode(ids[:-1]) == texts[name]
    assert not spelled


def test_what_is_no_bpe_and_a_wish_that_cannot_be_met(made: Path, tmp_path: Path) -> None:
    for algorithm in ("words", "chars"):
        run(made, "tokenize", "raw.jsonl", "-o", tmp_path / algorithm, "--algorithm", algorithm)
        metrics = manifest.read(tmp_path / algorithm).metrics
        assert (metrics["encoder"], metrics["why"]) == ("tokenizers", "the tokenizer is not a BPE")
    done = run_gptctl(
        "tokenize", made / "raw.jsonl", "-o", tmp_path / "x", "--algorithm", "chars", "--set", "encoder=gigatoken"
    )
    assert done.code == 2
    assert "gigatoken cannot be used: the tokenizer is not a BPE" in done.err


def test_import_from_a_folder_a_file_and_ranks(made: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    model = json.loads((made / "gpt2" / "tokenizer.json").read_text())["model"]
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "vocab.json").write_text(json.dumps(model["vocab"]))
    (theirs / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    for number, path in enumerate((theirs, theirs / "merges.txt", theirs / "vocab.json")):
        run(made, "tokenize", "raw.jsonl", "-o", tmp_path / str(number), "--tokenizer", path)
        for split in ("train", "val", "test"):
            assert rows_of(tmp_path / str(number), split) == rows_of(made / "gpt2", split)
        assert manifest.read(tmp_path / str(number)).metrics["encoder"] == "gigatoken"
    ranks = tmp_path / "mine.tiktoken"
    ranks.write_bytes(b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256)))
    done = gptctl("tokenize", made / "raw.jsonl", "-o", "ranks", "--tokenizer", ranks)
    assert (done.code, len(done.error_lines)) == (2, 2)
    assert "--split-pattern" in done.err
    again = ("tokenize", made / "raw.jsonl", "-o", "ranks", "--tokenizer", ranks, "--split-pattern", "modern")
    assert gptctl(*again).code == 0
    assert gptctl(*again, "--json").json["status"] == "up to date"
    assert gptctl("tokenize", made / "raw.jsonl", "-o", "y", "--tokenizer", tmp_path / "none").code == 2
    assert gptctl("tokenize", made / "raw.jsonl", "-o", "y", "--tokenizer", tmp_path / "none" / "none.json").code == 2
    (theirs / "merges.txt").write_text("#version: 0.2\nnot there\n")
    done = gptctl("tokenize", made / "raw.jsonl", "-o", "y", "--tokenizer", theirs)
    assert (done.code, len(done.error_lines)) == (3, 2)


@pytest.mark.slow
def test_shuffle_is_one_order_for_any_workers_and_after_a_kill(made: Path, tmp_path: Path) -> None:
    more = ("--tokenizer", "gpt2", "--val", "0.1", "--test", "0.05", "--shuffle", "--seed", "7")
    run(made, "tokenize", "raw.jsonl", "-o", tmp_path / "whole", *more, "--workers", "1")
    for encoder in ("auto", "tokenizers"):
        out = tmp_path / encoder
        run(made, "tokenize", "raw.jsonl", "-o", out, *more, "--workers", "2", "--set", f"encoder={encoder}")
        assert tree_bytes(out, "shards") == tree_bytes(tmp_path / "whole", "shards")
    for operation in (9, 33, 51, 56, 66):  # the last three while runs are merged
        out = tmp_path / f"killed{operation}"
        arguments = ("tokenize", "raw.jsonl", "-o", out, *more, "--workers", "1")
        killed = run_gptctl(*arguments, cwd=made, fault=f"kill:{operation}")
        assert killed.code == -signal.SIGKILL
        run(made, *arguments)
        assert tree_bytes(out) == tree_bytes(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole").iterdir() if path.is_dir()) == ["shards"]
    run(made, "tokenize", "raw.jsonl", "-o", tmp_path / "plain", *more[:-3])
    run(made, "tokenize", "raw.jsonl", "-o", tmp_path / "other", *more[:-1], "8")
    for split in ("train", "val", "test"):
        plain, shuffled = rows_of(tmp_path / "plain", split), rows_of(tmp_path / "whole", split)
        assert sorted(shuffled) == sorted(plain)
        assert shuffled == sorted(plain, key=lambda row: xxhash.xxh64_intdigest(row[0].encode(), 7))
        other = rows_of(tmp_path / "other", split)
        assert sorted(other) == sorted(plain)
        assert other != shuffled != plain
    one, other = (manifest.read(tmp_path / name) for name in ("whole", "plain"))
    assert (one.counts, one.metrics) == (other.counts, other.metrics)


def test_shuffle_into_several_shards(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gptctl.stages.tokenize import Tokenize
    from gptctl.stages.tokenize import run as tokenize

    expected = Tokenize(
        inputs=(str(made / "raw.jsonl"),), out=str(tmp_path / "one"), tokenizer=str(made / "gpt2"), shuffle=True, workers=1
    )  # fmt: skip
    tokenize(expected)
    monkeypatch.setattr(shuffle, "SHARD_BYTES", 100_000)
    tokenize(expected.model_copy(update={"out": str(tmp_path / "many")}))
    found = manifest.read(tmp_path / "many")
    assert len(found.of_split("train")) > 4
    assert max(shard.bytes for shard in found.shards) < 2 * 100_000
    assert [shard.path for shard in found.shards] == sorted(
        (s.path for s in found.shards), key=lambda p: p.split("/")[1] != "train"
    )
    for split in ("train", "val", "test"):
        assert rows_of(tmp_path / "many", split) == rows_of(tmp_path / "one", split)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=3000).map(sorted), st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_places_in_a_sorted_column(values: list[int], wanted: int) -> None:
    column = pa.array(values, pa.uint64())
    chunked = pa.chunked_array([column[i : i + 64] for i in range(0, len(column), 64)], pa.uint64())
    assert sorted_runs.position(chunked, wanted) == int(np.searchsorted(np.array(values, np.uint64), np.uint64(wanted)))


def test_as_many_shards_as_keep_them_small() -> None:
    for size, count in ((1, 1), (shuffle.SHARD_BYTES, 1), (shuffle.SHARD_BYTES + 1, 2), (3 * shuffle.SHARD_BYTES, 4)):
        runs = [Shard("shards/train/part-00000.arrow", 5, size, "x"), Shard("shards/val/part-00000.arrow", 5, 9, "y")]
        parts = list(shuffle.hash_ranges(runs, ("train", "val", "test")))
        assert [part.split for part in parts] == ["train"] * count + ["val"]


def test_figures(made: Path) -> None:
    found = manifest.read(made / "gpt2")
    texts = [json.loads(line)["text"] for line in (made / "raw.jsonl").read_text().splitlines()]
    rows = {split: rows_of(made / "gpt2", split) for split in ("train", "val", "test")}
    for split, own in rows.items():
        assert found.metrics[split]["documents"] == len(own)
        assert found.metrics[split]["tokens"] == sum(len(ids) for _, ids in own)
    assert sum(found.metrics[split]["bytes"] for split in rows) == sum(len(text.encode()) for text in texts)
    tokens = sum(len(ids) - 1 for own in rows.values() for _, ids in own)
    words = sum(len(text.replace("\0", " ").translate(ASCII_BLANKS).split(" ")) for text in texts)
    blanks = sum(text.replace("\0", " ").translate(ASCII_BLANKS).split(" ").count("") for text in texts)
    assert found.metrics["tokens_per_word"] == round(tokens / (words - blanks), 4)
    train = found.metrics["train"]
    assert found.metrics["bytes_per_token"] == round(train["bytes"] / train["tokens"], 4)
    used = {one for _, ids in rows["train"] for one in ids}
    assert found.metrics["vocabulary_used"] == round(len(used) / 600, 4)


ASCII_BLANKS = dict.fromkeys(range(0x21), " ")


def test_the_table_shows_the_figures(made: Path, tmp_path: Path) -> None:
    done = run(made, "tokenize", "raw.jsonl", "-o", tmp_path / "out", "--tokenizer", "gpt2")
    assert "tokens/word" in done.err
    assert "B/token" in done.err
    assert "used in train" in done.err


def test_each_document_is_cropped_for_training(tmp_path: Path, gptctl: Gptctl) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [{"text": "common words here " * 50 + "zqxjk" * 4000}] * 3)
    vocabularies = {}
    for size in (900, 0):
        out = f"out{size}"
        done = gptctl(
            "tokenize", "raw.jsonl", "-o", out, "--vocab-size", "280", "--val", "0", "--test", "0",
            "--set", f"train_chars_per_doc={size}",
        )  # fmt: skip
        assert done.code == 0, done.err
        vocabularies[size] = json.loads((tmp_path / out / "tokenizer.json").read_text())["model"]["vocab"]
    assert not any("zq" in name for name in vocabularies[900])
    assert any("zq" in name for name in vocabularies[0])


def test_what_the_documents_do_not_give_is_said(tmp_path: Path, gptctl: Gptctl) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [{"text": f"document {n} of a few", "cluster_id": "c"} for n in range(9)])
    done = gptctl("tokenize", "raw.jsonl", "-o", "clustered", "--val", "0.3")
    assert "fewer than --vocab-size 8,192: there is too little text for more" in done.err
    assert "cluster_id" not in done.err
    write_jsonl(tmp_path / "raw.jsonl", [{"text": f"document {n} of a few"} for n in range(9)])
    done = gptctl("tokenize", "raw.jsonl", "-o", "tokens", "--val", "0.3", "--algorithm", "chars")
    assert (done.code, "9 documents have no cluster_id: " in done.err) == (0, True), done.err
    assert "--vocab-size" not in done.err
    assert "the val split has only 3 documents (60 tokens): a loss on it is rough; raise --val" in done.err
    done = gptctl("tokenize", "raw.jsonl", "-o", "train", "--val", "0", "--test", "0", "--algorithm", "bytes")
    assert (done.code, "cluster_id" in done.err) == (0, False), done.err
    done = gptctl("inspect", "train", "--split", "val")
    assert (done.code, "train has no rows in split 'val'; it has: train" in done.err) == (3, True), done.err


@pytest.mark.parametrize("name", ["gpt2", "modern", "o200k"])
def test_any_text_comes_back(made: Path, name: str) -> None:
    tokenizer = Tokenizer.from_json((made / name / "tokenizer.json").read_text())
    assert tokenizer.lossless

    @given(st.text(max_size=100) | st.text("aB \n\r\t'1.é日🙂", max_size=60))
    @settings(max_examples=200, deadline=None)
    def check(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    check()
