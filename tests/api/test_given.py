"""Arguments of any type: what Python users have at hand is taken, and everything else is an error that says so."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import gptctl
from tests.api.test_commands import FUNCTIONS
from tests.conftest import documents, write_jsonl

FRAMES: dict[str, Any] = {
    "pandas.DataFrame": pd.DataFrame({"text": ["a", "b"]}),
    "polars.DataFrame": pl.DataFrame({"text": ["a", "b"]}),
    "pyarrow.Table": pa.table({"text": ["a", "b"]}),
}
REQUIRED = {
    "pretrain": {}, "generate": {"model": "m"}, "finetune": {"base": "b", "data": "d", "out": "x"}, "evaluate": {},
    "export": {"model": "m", "out": "x"}, "report": {"paths": "p", "out": "x"},
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_argument_of_a_wrong_type_is_an_internal_error(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    function = getattr(gptctl, name)
    base = REQUIRED.get(name, {"inputs": "raw.jsonl", "out": "x"})
    wrong = [*FRAMES.values(), pd.Series(["a"]), object(), b"bytes", len, "\ud800"]
    for parameter in inspect.signature(function).parameters:
        for value in wrong:
            with pytest.raises(gptctl.GptctlError) as caught:
                function(**{**base, parameter: value})
            assert caught.value.exit_code == 2 and parameter in caught.value.message, caught.value.message


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        ("filters", 3, "filters takes a list of texts"),
        ("filters", [["a"], ["b"]], "filters takes a list of texts"),
        ("config", 3, "config takes a path, not 3"),
        ("config", ["a"], "config takes a path"),
        ("dry_run", "no", "dry_run takes True or False, not 'no'"),
        ("out", "a\0b", "out contains a null character"),
        ("inputs", ["raw.jsonl", None], "inputs takes a list of texts"),
    ],
)
def test_values_of_wrong_types_are_named(tmp_path: Path, parameter: str, value: object, said: str) -> None:
    with pytest.raises(gptctl.GptctlError, match=said) as caught:
        gptctl.clean(**{"inputs": "raw.jsonl", "out": str(tmp_path / "x"), parameter: value})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", FRAMES)
def test_a_table_as_input_is_told_to_be_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(gptctl.GptctlError, match=f"inputs cannot be a {name}") as caught:
        gptctl.clean(FRAMES[name], out=tmp_path / "x")
    assert "rows.parquet" in str(caught.value.hint)


def test_results_and_datasets_as_input_are_told_their_paths(workspace: Path) -> None:
    with pytest.raises(gptctl.GptctlError, match=r"inputs cannot be a gptctl\.Dataset") as caught:
        gptctl.dedup(gptctl.load(workspace / "clean"), out="x")
    assert caught.value.hint == f"give its path: {workspace / 'clean'}"
    with pytest.raises(gptctl.GptctlError, match=r"inputs cannot be a gptctl\.Summary") as caught:
        gptctl.dedup(gptctl.Summary("clean", outputs=("cleaned",)), out="x")
    assert caught.value.hint == "give its output: cleaned"


def test_arrays_iterators_and_sets_are_lists(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        write_jsonl(path, documents(5))
    for inputs in (np.array([str(path) for path in paths]), iter(paths), set(paths)):
        planned = gptctl.clean(inputs, out=tmp_path / "x", limit=np.int64(7), dry_run=True, quiet=True)
        assert planned.status == "planned"


def test_thresholds_are_a_dictionary(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"label": "a", "pred": "a"}, {"label": "b", "pred": "a"}] * 4)
    with pytest.raises(gptctl.GptctlError, match=r"accuracy 0.5000 < 0.9") as caught:
        gptctl.evaluate(predictions=tmp_path / "p.jsonl", fail_under={"accuracy": 0.9}, quiet=True)
    assert caught.value.exit_code == 7
    assert gptctl.evaluate(predictions=tmp_path / "p.jsonl", fail_under={"accuracy": 0.5}, quiet=True)
    with pytest.raises(gptctl.GptctlError, match="'accuracy=high' is not a threshold"):
        gptctl.evaluate(predictions=tmp_path / "p.jsonl", fail_under={"accuracy": "high"})
    (tmp_path / "own.toml").write_text("[eval]\nfail_under = {accuracy = 0.9}\n")
    with pytest.raises(gptctl.GptctlError, match=r"accuracy 0.5000 < 0.9"):
        gptctl.evaluate(predictions=tmp_path / "p.jsonl", config=tmp_path / "own.toml", quiet=True)


def test_a_result_is_a_dictionary(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"label": "a", "pred": "a"}, {"label": "b", "pred": "a"}] * 4)
    result = gptctl.evaluate(predictions=tmp_path / "p.jsonl", quiet=True)
    assert result.to_dict()["metrics"]["accuracy"] == 0.5 and result.to_dict()["stage"] == "eval"


def test_a_list_of_prompts(workspace: Path, tmp_path: Path) -> None:
    prompts = ["The", "", "A, b\nc"]
    run = gptctl.load(workspace / "run")
    texts = run.generate(prompts, max_tokens=8, temperature=0)
    assert texts == [run.generate(prompt, max_tokens=8, temperature=0) for prompt in prompts]
    assert run.generate(np.array(prompts), max_tokens=8, temperature=0) == texts
    assert run.generate([], max_tokens=8) == []
    shown = gptctl.generate(workspace / "run", prompts, max_tokens=8, temperature=0, quiet=True)
    assert [row["text"] for row in shown.metrics["samples"]] == texts
    options: dict[str, Any] = {"max_tokens": 8, "temperature": 0, "out": tmp_path / "samples", "quiet": True}
    written = gptctl.generate(workspace / "run", prompts, num=2, **options)
    rows = list(gptctl.load(tmp_path / "samples"))
    assert written.counts.kept == 3 and [row["text"] for row in rows][::2] == texts
    assert gptctl.generate(workspace / "run", prompts, num=2, **options).status == "up to date"
    with pytest.raises(gptctl.GptctlError) as caught:
        gptctl.generate(workspace / "run", [*prompts, "new"], num=2, **options)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda run: run.generate(3), "prompt takes a text or a list of texts, not int"),
        (lambda run: run.generate(["a", 3]), "not a list with int"),
        (lambda run: run.generate([10**6]), "prompt has the token id 1000000"),
        (lambda run: run.generate([-1]), "prompt has the token id -1"),
        (lambda run: run.generate(None), "not NoneType"),
        (lambda run: run.generate(b"a"), "prompt cannot be a bytes"),
        (lambda run: run.generate(FRAMES["pandas.DataFrame"]), "prompt cannot be a pandas.DataFrame"),
        (lambda run: run.generate("\ud800"), "not valid Unicode"),
        (lambda run: run.generate("a", stop=object()), "stop cannot be a object"),
        (lambda run: run.stream(["a", "b"]), "stream takes one text, not list"),
        (lambda run: run.score(3), "text takes a text or a list of texts, not int"),
        (lambda run: run.score([["a"]]), "not a list with list"),
        (lambda run: run.score(FRAMES["polars.DataFrame"]), "text cannot be a polars.DataFrame"),
        (lambda run: gptctl.load(3), "path is that of a file or folder, not 3"),
        (lambda run: gptctl.load(FRAMES["pyarrow.Table"]), "path cannot be a pyarrow.Table"),
        (lambda run: gptctl.load("a\0b"), "path is that of a file or folder"),
        (lambda run: gptctl.load(run.path, dtype=["int8"]), "dtype takes"),
        (lambda run: gptctl.load(run.path, split=3), "split takes the name of a split, not 3"),
    ],
)  # fmt: skip
def test_models_name_what_they_take(workspace: Path, call: Callable[[Any], object], said: str) -> None:
    with pytest.raises(gptctl.GptctlError, match=said) as caught:
        call(gptctl.load(workspace / "run"))
    assert caught.value.exit_code == 2


def test_scores_of_arrays_and_of_nothing(workspace: Path) -> None:
    run = gptctl.load(workspace / "run")
    assert run.score(np.array(["a text", "another"])) == run.score(["a text", "another"])
    assert run.score([]) == [] and gptctl.load(workspace / "classifier").predict([]) == []


def test_a_dataset_is_a_sequence_of_rows(workspace: Path) -> None:
    found = gptctl.load(workspace / "clean")
    rows = found.to_arrow().to_pylist()
    assert list(found) == rows and found[0] == rows[0] and found[-1] == rows[-1]
    assert found[1:3] == rows[1:3] and found[::-1] == rows[::-1]
    assert [found[number] for number in range(len(found))] == rows
    for absent in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError, match="there is no row"):
            found[absent]
    with pytest.raises(gptctl.GptctlError, match="rows have numbers, not 'text'"):
        found["text"]
    with pytest.raises(gptctl.GptctlError, match="limit takes a whole number"):
        found.to_arrow("3")
    part = gptctl.load(workspace / "tokens", split="test")
    assert list(part) == part.to_arrow().to_pylist() and part[0] == part.to_arrow().to_pylist()[0]
