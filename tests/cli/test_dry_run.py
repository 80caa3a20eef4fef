"""A dry run refuses what the run refuses, with the same error, and accepts what it accepts. Nothing is written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from gptctl.cli.console import plan_rows
from gptctl.cli.stages import config_model, plan
from gptctl.core import plugins
from gptctl.core.config import Values
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError
from tests.conftest import documents, tree_bytes, write_jsonl

QUICK: dict[str, Values] = {
    "clean": {"executor": "serial", "preset": "none", "identify_language": False},
    "dedup": {"executor": "serial", "method": "exact"},
    "tokenize": {"executor": "serial", "vocab_size": 300, "test": 0.0, "val": 0.0},
    "finetune": {"device": "cpu", "epochs": 0.1},
    "eval": {"device": "cpu", "cache": "none"},
    "generate": {"device": "cpu", "max_tokens": 1},
    "pretrain": {"device": "cpu", "steps": 1, "preset": "test-modern"},
    "export": {},
    "serve": {"device": "cpu", "port": 0},
}
DATA_STAGES = ("clean", "dedup", "tokenize")
Make = Callable[[Path], Any]


def outcome(stage: str, values: Values, how: str) -> tuple[type[Exception], str, int] | None:
    """Return the error of a plan or a run, or None."""
    try:
        config = config_model(stage).model_validate(QUICK[stage] | values)
        if how == "plan":
            plan(stage, config, Context())
        else:
            plugins.load("gptctl.stages", stage).run(config, Context())
    except GptctlError as error:
        return type(error), error.message, error.exit_code
    return None


def compare(stage: str, values: Values, folder: Path) -> int:
    """Hold a dry run against the run; return the exit code of both."""
    before = tree_bytes(folder, ".")
    planned = outcome(stage, values, "plan")
    assert tree_bytes(folder, ".") == before, "the dry run wrote something"
    assert planned == outcome(stage, values, "run")
    return planned[2] if planned else 0


def lines(good: int, bad: int) -> Make:
    """Write JSON lines of which some are broken."""

    def make(folder: Path) -> None:
        path = write_jsonl(folder / "in.jsonl", documents(good) if good else [])
        path.write_text("{broken\n" * bad + path.read_text())

    return make


def written(name: str, data: bytes) -> Make:
    """Write one file."""
    return lambda folder: (folder / name).write_bytes(data)


def table(columns: dict[str, list[Any]]) -> Make:
    """Write a Parquet file."""
    return lambda folder: papq.write_table(pa.table(columns), folder / "in.parquet")


ROWS = b"".join(json.dumps(row).encode() + b"\n" for row in documents(30))
INPUTS: dict[str, tuple[int, Make]] = {
    "good": (0, lines(30, 0)),
    "few unreadable records": (0, lines(30, 5)),
    "a small share of unreadable records": (0, lines(900, 9)),
    "too many unreadable records": (3, lines(30, 6)),
    "no readable record": (3, lines(0, 1)),
    "no record": (3, written("in.jsonl", b"")),
    "no file": (3, lambda folder: None),
    "no text column in lines": (3, written("in.jsonl", b'{"body": "text"}\n')),
    "no text column in CSV": (3, written("in.csv", b"id;body\n1;text\n")),
    "no text column in Parquet": (3, table({"body": ["text"]})),
    "numbers as text": (3, table({"text": [1, 2]})),
    "two columns of one name": (3, written("in.csv", b"text,text\na,b\n")),
    "Latin-1": (0, written("in.txt", "Ein schöner Text über Größe.".encode("latin-1"))),
    "binary text": (3, written("in.txt", bytes(range(256)) * 9)),
    "binary CSV": (3, written("in.csv", b"text,label\n" + bytes(range(256)) * 9)),
    "rows of other lengths": (3, written("in.csv", b"text,label\n" + b"a,b,c\n" * 9 + b"a,b\n" * 9)),
    "damaged Parquet": (3, written("in.parquet", b"PAR1 and no more")),
    "damaged compression": (3, written("in.jsonl.gz", gzip.compress(ROWS, mtime=0)[:-20])),
    "damaged JSON": (3, written("in.json", b'[{"text": ')),
    "an archive": (3, written("in.zip", b"PK\x03\x04")),
    "a name that is not UTF-8": (3, lambda folder: os.open(os.fsencode(folder) + b"/\xe9.txt", os.O_CREAT)),
}


@pytest.mark.parametrize("stage", DATA_STAGES)
@pytest.mark.parametrize("what", INPUTS)
def test_inputs(what: str, stage: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    code, make = INPUTS[what]
    make(tmp_path / "in")
    assert compare(stage, {"inputs": (str(tmp_path / "in"),), "out": str(tmp_path / "out")}, tmp_path) == code


@pytest.mark.parametrize("stage", DATA_STAGES)
def test_inputs_that_are_outputs(stage: str, tmp_path: Path, workspace: Path) -> None:
    """Of another kind, unfinished, or damaged; and paths where nothing is."""
    for name, missing in (("unfinished", "manifest.json"), ("damaged", "run.json")):
        shutil.copytree(workspace / "clean", tmp_path / name)
        (tmp_path / name / missing).unlink()
    (tmp_path / "damaged" / "manifest.json").write_text("{}")
    for source, code in (("unfinished", 3), ("damaged", 3), ("nowhere", 2), (str(workspace / "tokens"), 3)):
        values = {"inputs": (str(tmp_path / source),), "out": str(tmp_path / "out")}
        assert compare(stage, values, tmp_path) == code, source
    assert compare(stage, {"inputs": ("-", "x"), "out": str(tmp_path / "out")}, tmp_path) == 2


@pytest.mark.parametrize("stage", DATA_STAGES)
def test_outputs(stage: str, tmp_path: Path, workspace: Path) -> None:
    """OUT that lies inside the input, has files of others, or was made by another command, with other settings or input."""
    write_jsonl(tmp_path / "in.jsonl", documents(30))
    write_jsonl(tmp_path / "other.jsonl", documents(31))
    values: Values = {"inputs": (str(tmp_path / "in.jsonl"),), "out": str(tmp_path / "out")}
    assert compare(stage, values, tmp_path) == 0
    assert compare(stage, values, tmp_path) == 0  # up to date
    assert compare(stage, values | {"max_doc_bytes": 5000}, tmp_path) == 5
    assert compare(stage, values | {"inputs": (str(tmp_path / "other.jsonl"),)}, tmp_path) == 5
    shutil.copytree(workspace / "labelled", tmp_path / "foreign")
    assert compare(stage, values | {"out": str(tmp_path / "foreign")}, tmp_path) == 5
    another = "tokens" if stage != "tokenize" else "clean"
    assert compare(stage, values | {"out": str(workspace / another)}, tmp_path) == 5
    inside = {"inputs": (str(tmp_path),), "out": str(tmp_path / "inside")}
    assert compare(stage, inside, tmp_path) == 2


OPTIONS: dict[str, tuple[str, int, Values]] = {
    "clean without -o": ("clean", 2, {"out": None}),
    "rejects into a pipe": ("clean", 2, {"out": "-", "keep_rejects": True}),
    "an id that is not there": ("clean", 2, {"out": None, "explain": "nobody"}),
    "no evaluation data": ("clean", 2, {"decontaminate": ("nowhere.jsonl",)}),
    "unreadable evaluation data": ("clean", 3, {"decontaminate": ("PLACE/cut.parquet",)}),
    "no earlier documents": ("dedup", 2, {"against": ("nowhere.jsonl",)}),
    "earlier documents from a pipe": ("dedup", 2, {"against": ("-",)}),
    "unreadable earlier documents": ("dedup", 3, {"against": ("PLACE/other.jsonl",)}),
    "an index that cannot do it": ("dedup", 2, {"method": "minhash", "index": "datasketch", "keep": "longest"}),
    "more bands than permutations": ("dedup", 2, {"method": "minhash", "num_perm": 8, "bands": 9}),
    "tokens into a pipe": ("tokenize", 2, {"out": "-"}),
    "nothing to train on": ("tokenize", 2, {"val": 0.6, "test": 0.6}),
    "an empty training split": ("tokenize", 3, {"val": 0.9, "test": 0.0999}),
    "no tokenizer": ("tokenize", 2, {"tokenizer": "nowhere"}),
    "a tokenizer that is none": ("tokenize", 3, {"tokenizer": "PLACE/tokenizer.json"}),
    "a tokenizer that lacks characters": ("tokenize", 3, {"tokenizer": "PLACE/chars"}),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_options(what: str, tmp_path: Path) -> None:
    stage, code, values = OPTIONS[what]
    write_jsonl(tmp_path / "in.jsonl", documents(3))
    write_jsonl(tmp_path / "other.jsonl", [{"price": 3}] * 9)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "tokenizer.json").write_text("{}")
    if "characters" in what:
        write_jsonl(tmp_path / "abc.jsonl", [{"text": "abc"}])
        chars = {"inputs": (str(tmp_path / "abc.jsonl"),), "out": str(tmp_path / "chars"), "algorithm": "chars"}
        assert outcome("tokenize", chars, "run") is None
    placed = json.loads(json.dumps(values).replace("PLACE", str(tmp_path)))
    common: Values = {"inputs": (str(tmp_path / "in.jsonl"),), "out": str(tmp_path / "out")}
    assert compare(stage, common | placed, tmp_path) == code


@pytest.mark.parametrize("what", [name for name, (code, _) in INPUTS.items() if code and name != "no file"])
def test_data_of_finetune_and_eval(what: str, tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "in").mkdir()
    INPUTS[what][1](tmp_path / "in")
    data, out = str(tmp_path / "in"), str(tmp_path / "out")
    for stage, values in (
        ("finetune", {"base": str(workspace / "run"), "data": (data,), "out": out}),
        ("eval", {"model": str(workspace / "classifier"), "data": data}),
    ):
        assert compare(stage, values, tmp_path) == 3, stage


def test_predictions(tmp_path: Path) -> None:
    """What eval scores without a model."""
    for name, data, code in (
        ("good.csv", b"id;label;pred\n1;a;a\n2;b;a\n", 0),
        ("short.csv", b"id;label;pred\n1;a;a\n2;b\n", 3),
        ("none.csv", b"id;label;pred\n", 3),
        ("other.csv", b"id;truth;guess\n1;a;a\n", 3),
        ("twice.jsonl", b'{"id": 1, "label": "a", "pred": "a"}\n' * 2, 3),
        ("broken.jsonl", b'{"id": 1', 3),
    ):
        (tmp_path / name).write_bytes(data)
        assert compare("eval", {"predictions": str(tmp_path / name)}, tmp_path) == code, name
    good = str(tmp_path / "good.csv")
    for values, code in (
        ({"predictions": "nowhere.csv"}, 2), ({"predictions": good, "no_regress": "nowhere.json"}, 2),
        ({"predictions": good, "compare": "nowhere.csv"}, 2), ({"predictions": good, "average": "binary"}, 2),
        ({"predictions": good, "compare": str(tmp_path / "broken.jsonl")}, 3),
    ):  # fmt: skip
        assert compare("eval", values, tmp_path) == code, values


# W is the workspace of good outputs, PLACE the test's own folder.
MODELS: list[tuple[str, int, Values]] = [
    ("pretrain", 2, {"tokens": ("nowhere",), "out": "PLACE/out"}),
    ("pretrain", 3, {"tokens": ("W/clean",), "out": "PLACE/out"}),
    ("pretrain", 2, {"tokens": ("W/tokens",), "out": "PLACE/out", "loggers": ("nosuch",)}),
    ("pretrain", 2, {"tokens": ("W/tokens",), "out": "PLACE/out", "training": {"optimizer": "nosuch"}}),
    ("finetune", 2, {"base": "nowhere", "data": ("W/labelled",), "out": "PLACE/out"}),
    ("finetune", 3, {"base": "PLACE/unknown", "data": ("W/labelled",), "out": "PLACE/out"}),
    ("finetune", 2, {"base": "W/run", "data": ("nowhere",), "out": "PLACE/out"}),
    ("finetune", 3, {"base": "W/run", "data": ("W/labelled",), "out": "PLACE/out", "label_column": "nosuch"}),
    ("finetune", 3, {"base": "W/run", "data": ("W/labelled",), "out": "PLACE/out", "task": "chat"}),
    ("finetune", 2, {"base": "W/run", "data": ("W/labelled",), "out": "PLACE/out", "max_seq_len": 10**6}),
    ("eval", 2, {"model": "nowhere", "data": "W/labelled"}),
    ("eval", 3, {"model": "PLACE/unknown", "data": "W/labelled"}),
    ("eval", 2, {"model": "W/classifier", "data": "nowhere"}),
    ("eval", 3, {"model": "W/classifier", "data": "W/labelled/test.jsonl", "label_column": "nosuch"}),
    ("eval", 3, {"model": "W/run", "data": "W/labelled", "task": "classify"}),
    ("eval", 2, {"model": "W/classifier"}),
    ("generate", 2, {"model": "nowhere", "prompt": "The"}),
    ("generate", 3, {"model": "PLACE/unknown", "prompt": "The"}),
    ("generate", 2, {"model": "W/run", "prompts": "nowhere.txt"}),
    ("generate", 3, {"model": "W/run", "prompts": "PLACE/empty.txt"}),
    ("generate", 3, {"model": "W/run", "prompt": "The", "chat": True}),
    ("generate", 2, {"model": "W/run", "prompt": "The", "prompts": "PLACE/empty.txt"}),
    ("serve", 2, {"model": "nowhere"}),
    ("serve", 3, {"model": "PLACE/unknown"}),
    ("serve", 3, {"model": "W/classifier"}),
    ("serve", 2, {"model": "W/run", "api_key_file": "nowhere.txt"}),
    ("serve", 3, {"model": "W/run", "api_key_file": "PLACE/empty.txt"}),
    ("serve", 2, {"model": "W/run", "quantize": "int8", "precision": "bf16"}),
    ("export", 2, {"model": "nowhere", "out": "PLACE/out"}),
    ("export", 3, {"model": "PLACE/unknown", "out": "PLACE/out"}),
]


@pytest.mark.parametrize(("stage", "code", "values"), MODELS)
def test_models(stage: str, code: int, values: Values, tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "model.safetensors").write_bytes(b"{}")
    (tmp_path / "unknown" / "config.json").write_text(
        '{"model_type": "nosuch", "architectures": ["NosuchForCausalLM"]}'
    )
    placed = json.dumps(values).replace("PLACE", str(tmp_path)).replace('"W/', f'"{workspace}/')
    assert compare(stage, json.loads(placed), tmp_path) == code


def test_a_plan_shows_records_as_rows() -> None:
    """Such as the sources of a mixture."""
    plan = {"model": {"layers": 2}, "sources": [{"name": "web", "tokens": 12_000}, {"name": "code", "tokens": 5}]}
    assert plan_rows(plan) == (("model.layers", "2"), ("sources.web.name", "web"), ("sources.web.tokens", "12,000"),
                               ("sources.code.name", "code"), ("sources.code.tokens", "5"))  # fmt: skip
