"""gptctl.load: datasets as tables of other libraries, models that generate, score and predict as the commands do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gptctl
from gptctl.core.errors import GptctlError
from tests.conftest import Ran, documents, plain_environment, write_jsonl


def test_a_dataset_opens_in_every_library(workspace: Path) -> None:
    import pandas as pd
    import polars as pl

    found = gptctl.load(workspace / "clean")
    assert isinstance(found, gptctl.Dataset) and found.kind == "documents"
    assert len(found) == found.counts.kept == found.to_arrow().num_rows
    texts = found.to_arrow()["text"].to_pylist()
    pandas, polars, hugging_face = found.to_pandas(), found.to_polars(), found.to_datasets()
    assert isinstance(pandas, pd.DataFrame) and isinstance(polars, pl.DataFrame)
    assert list(pandas["text"]) == polars["text"].to_list() == list(hugging_face["text"]) == texts
    assert len(found.to_arrow(limit=3)) == 3
    html = found._repr_html_()
    assert "<table" in html and f"{len(found):,} rows of documents" in html


def test_splits_of_tokens(workspace: Path) -> None:
    whole = gptctl.load(workspace / "tokens")
    assert isinstance(whole, gptctl.Dataset) and whole.splits == ["train", "val", "test"]
    parts = [gptctl.load(workspace / "tokens", split=split) for split in whole.splits]
    assert sum(map(len, parts)) == len(whole)
    with pytest.raises(gptctl.GptctlError, match="has no split 'dev'"):
        gptctl.load(workspace / "tokens", split="dev")


def test_a_damaged_shard_is_an_error(workspace: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(workspace / "clean", tmp_path / "clean")
    shard = next((tmp_path / "clean").glob("shards/*.arrow"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(gptctl.GptctlError, match="checksum mismatch") as caught:
        gptctl.load(tmp_path / "clean").to_arrow()
    assert caught.value.exit_code == 3


def test_a_run_generates_and_scores_as_the_commands_do(
    gptctl: Callable[..., Ran], workspace: Path, tmp_path: Path
) -> None:
    run = load(workspace / "run")
    assert run.metrics["steps"] == 20 and {"step", "eval"} <= {event["event"] for event in run.events()}
    shown = gptctl("generate", workspace / "run", "The", "--max-tokens", "12", "--temperature", "0", "--json").json
    (sample,) = shown["metrics"]["samples"]
    assert run.generate("The", max_tokens=12, temperature=0) == sample["text"]
    assert "".join(run.stream("The", max_tokens=12, temperature=0)) == sample["text"]
    ids = [run.tokenizer.end_of_text_id, *run.tokenizer.encode("The")]
    assert run.tokenizer.decode(run.generate(ids, max_tokens=12, temperature=0)) == sample["text"]
    rows = documents(4)
    write_jsonl(tmp_path / "texts.jsonl", rows)
    figures = gptctl("eval", workspace / "run", "texts.jsonl", "--json").json["metrics"]
    scores = run.score([row["text"] for row in rows])
    total = sum(score.nats for score in scores)
    assert total / sum(score.tokens for score in scores) == pytest.approx(figures["loss"], rel=1e-6)
    assert run.score(rows[0]["text"]) == scores[0] and scores[0].bits_per_byte > 0
    assert load(workspace / "run", dtype="int8").generate("The", max_tokens=4)


def test_a_classifier_predicts_as_eval_does(gptctl: Callable[..., Ran], workspace: Path, tmp_path: Path) -> None:
    model = load(workspace / "classifier")
    assert model.labels == ("even", "odd")
    done = gptctl("eval", workspace / "classifier", workspace / "labelled", "-o", "scores", "--json")
    assert done.code == 0, done.err
    rows = [row for row in load(tmp_path / "scores").to_arrow().to_pylist() if row["split"] == "test"]
    texts = [json.loads(line)["text"] for line in (workspace / "labelled" / "test.jsonl").read_text().splitlines()]
    found = model.predict(texts)
    assert [one.label for one in found] == [row["pred"] for row in rows]
    assert list(found[0].probabilities.values()) == pytest.approx(rows[0]["probs"], abs=1e-6)
    for call in (model.generate, model.score):
        with pytest.raises(GptctlError, match="is a classifier"):
            call("text")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda run: run.generate("a", max_tokens=0), "max_tokens"),
        (lambda run: run.generate("a", temprature=1), "temperature"),
        (lambda run: load(run.path, dtype="bf16"), "dtype takes float32, bfloat16, int8, int4, not 'bf16'"),
        (lambda run: load(run.path, device="gpu"), "device takes auto, cpu, cuda, mps, not 'gpu'"),
        (lambda run: run.predict("a"), "is a language model"),
        (lambda run: load("no/such/place"), "no such file or folder"),
        (lambda run: load(run.path, split="train"), "split is for datasets"),
    ],
)
def test_errors(workspace: Path, call: Callable[[gptctl.Run], object], said: str) -> None:
    with pytest.raises(gptctl.GptctlError, match=said) as caught:
        call(load(workspace / "run"))
    assert caught.value.exit_code in (2, 3)
    assert "--" not in str(caught.value.hint)


def test_loading_a_dataset_needs_no_torch(workspace: Path) -> None:
    code = "import gptctl, sys; d = gptctl.load(sys.argv[1]); d.to_arrow(); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(workspace / "clean")]
    assert subprocess.run(command, env=plain_environment(), capture_output=True, text=True).stdout == "False\n"


def load(path: object, **options: object) -> "gptctl.Run":
    """Open a run; the fixture of tests is called gptctl, too."""
    import gptctl as package

    return package.load(path, **options)
