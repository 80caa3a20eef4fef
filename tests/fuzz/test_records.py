"""Records and predictions that are damaged, or say something else: each command that reads them answers or refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core import checked_json
from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.io.input import predictions
from gptctl.io.input.blocks import ReadOptions
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.predictions import read_predictions
from gptctl.io.input.read_task import read_task
from gptctl.stages import clean, doctor, eval, inspect, pretrain, tokenize
from tests.conftest import documents, run_gptctl, write_jsonl
from tests.fuzz.child import Child, check
from tests.fuzz.mutate import changed, json_values, mutated
from tests.fuzz.profile import examples
from tests.fuzz.test_readers import arrow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw.jsonl and the output `clean`."""
    folder = tmp_path_factory.mktemp("records")
    write_jsonl(folder / "raw.jsonl", documents(20))
    run_clean(folder)
    return folder


def run_clean(folder: Path) -> str:
    config = clean.Clean(
        inputs=(str(folder / "raw.jsonl"),), out=str(folder / "clean"), executor="serial", preset="none"
    )
    return clean.run(config, Context(argv=("clean",))).status


def rows(folder: Path) -> int:
    options = ReadOptions()
    return sum(len(read_task(task, options)[0]) for task in Inputs((str(folder / "clean"),), options).tasks())


READERS: dict[str, Callable[[Path], object]] = {
    "the next stage": rows,
    "the same command": run_clean,
    "inspect": lambda folder: inspect.run(inspect.Inspect(path=str(folder / "clean"))).status,
    "doctor": lambda folder: doctor.run(doctor.Doctor(paths=(str(folder / "clean"),), lineage=True)).status,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["manifest.json", "run.json"])
def test_records(name: str, reader: str, made: Path, tmp_path: Path) -> None:
    whole = (made / "clean" / name).read_bytes()
    read = READERS[reader]

    def on_copy(data: bytes) -> object:
        shutil.rmtree(tmp_path / "w", ignore_errors=True)
        shutil.copytree(made, tmp_path / "w")
        (tmp_path / "w" / "clean" / name).write_bytes(data)
        return read(tmp_path / "w")

    with Child(on_copy) as child:
        assert "value" in child(whole)

        @given(
            mutated(whole)
            | changed({k: v for k, v in json.loads(whole).items() if k != "xxh3_128"}).map(dumped)
            | json_values.map(dumped)
        )
        @examples(30, share=0.5)
        def look(data: bytes) -> None:
            check(child(data), 3, 5)

        look()


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", ["manifest.json", "run.json"])
def test_nested_too_deep(name: str, made: Path, tmp_path: Path) -> None:
    """Python's own parser raises RecursionError, which is no ValueError."""
    shutil.copytree(made, tmp_path / "w")
    (tmp_path / "w" / "clean" / name).write_text("[" * 100_000)
    for read in READERS.values():
        with Child(lambda _, read=read: read(tmp_path / "w")) as child:
            check(child(), 3, 5)


PREDICTED = [
    {"id": number, "label": "a" if number % 2 else "b", "pred": "a", "probs": [0.75, 0.25], "split": "test"}
    for number in range(6)
]
LINES = b"".join(dumped(row) + b"\n" for row in PREDICTED)
FILES = {
    "p.jsonl": LINES,
    "p.csv": b"id,label,pred,nats\n" + b"".join(f"{row['id']},{row['label']},a,1.5\n".encode() for row in PREDICTED),
    "p.arrow": arrow(predictions.to_table(PREDICTED, "predictions", {"splits": {"test": 6}})),
    "p.jsonl.gz": pa.compress(LINES, "gzip", asbytes=True),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_predictions(name: str, tmp_path: Path) -> None:
    def read(data: bytes) -> int:
        (tmp_path / name).write_bytes(data)
        return len(read_predictions(str(tmp_path / name)).rows)

    with Child(read) as child:
        assert child(FILES[name]) == {"value": 6}

        @given(mutated(FILES[name]))
        @examples(40)
        def look(data: bytes) -> None:
            check(child(data))

        look()


def test_predictions_of_any_kind_are_scored_or_refused(tmp_path: Path) -> None:
    """Rows of any types come to figures or to an error: eval's own scorer on what other systems wrote."""

    def score(data: bytes) -> object:
        (tmp_path / "p.jsonl").write_bytes(data)
        return eval.run(eval.Eval(predictions=str(tmp_path / "p.jsonl"))).status

    columns = st.sampled_from(["id", "label", "pred", "probs", "split", "nats", "bytes", "tokens", "choices", "loglik"])
    row = st.dictionaries(columns, json_values, max_size=5)
    with Child(score) as child:
        assert child(LINES) == {"value": "done"}

        @given(changed(PREDICTED) | st.lists(row, max_size=3) | st.lists(st.sampled_from(PREDICTED) | row, max_size=4))
        @examples(80)
        def look(found: Any) -> None:
            lines = found if isinstance(found, list) else [found]
            check(child(b"".join(dumped(line) + b"\n" for line in lines)), 2, 3)

        look()


@pytest.mark.parametrize("stage", ["pretrain"])
def test_events_of_any_kind(stage: str) -> None:
    """A curve is drawn of the lines that are events."""
    from gptctl.reporting.events import parse_event
    from gptctl.reporting.matplotlib_plots import loss_curve

    good = {"time": "2024-01-01T00:00:00+00:00", "event": "step", "step": 3, "loss": 2.5, "lr": 0.1}

    @given(st.lists((changed(good) | json_values).map(dumped) | mutated(dumped(good)), max_size=4))
    @examples(8, share=0.1)
    def look(lines: list[bytes]) -> None:
        loss_curve([event for line in lines if (event := parse_event(line))], "title")

    look()


@pytest.mark.parametrize("damage", [lambda data: data.replace(b'"t"', b'"T"', 1) + b" ", lambda data: b"\xff", None])
def test_another_tokenizer_beside_the_tokens(
    damage: Callable[[bytes], bytes] | None, made: Path, tmp_path: Path
) -> None:
    """Its hash stands in the manifest: tokens are never taken for those of another tokenizer."""
    config = tokenize.Tokenize(
        inputs=(str(made / "clean"),), out=str(tmp_path / "t"), algorithm="bytes", executor="serial"
    )
    tokenize.run(config)
    path = tmp_path / "t" / "tokenizer.json"
    look = doctor.Doctor(paths=(str(tmp_path / "t"),))
    assert doctor.run(look).failure is None
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    failure = doctor.run(look).failure
    assert failure is not None and "tokenizer" in str(failure)
    with pytest.raises(DataError, match="tokenizer"):
        pretrain.run(
            pretrain.Pretrain(tokens=(str(tmp_path / "t"),), out=str(tmp_path / "r"), preset="test-gpt2", steps=1)
        )


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"b\xff.jsonl"])
def test_names_that_are_not_utf8(name: bytes, tmp_path: Path) -> None:
    """Refused by name, in a folder and as an argument; other odd names are names."""
    (tmp_path / "in").mkdir()
    for good in ("new\nline.txt", "a\x1b[31m.txt", "é .txt"):
        (tmp_path / "in" / good).write_text("text of a fair length")
    assert len(next(iter(Inputs((str(tmp_path / "in"),), ReadOptions()).tasks())).blocks) == 3
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(b"text")
    except OSError:
        return  # a file system that has only UTF-8
    with pytest.raises(DataError, match="not UTF-8"):
        Inputs((str(tmp_path / "in"),), ReadOptions())
    done = run_gptctl("clean", os.fsdecode(b"in/" + name), "-o", "out", cwd=tmp_path)
    assert done.code == 2 and "not UTF-8" in done.err


def test_places_that_no_file_can_have(made: Path, tmp_path: Path) -> None:
    """A run.json that says to have read them: with half a surrogate pair, and with a zero byte."""
    shutil.copytree(made / "clean", tmp_path / "clean")
    path = tmp_path / "clean" / "run.json"
    whole = checked_json.without_checksum(json.loads(path.read_bytes()))
    for name in ("\ud800", "a\0b"):
        path.write_text(json.dumps(checked_json.with_checksum(whole | {"sources": {"inputs": [name]}})))
        assert doctor.run(doctor.Doctor(paths=(str(tmp_path / "clean"),), lineage=True)).failure is None
