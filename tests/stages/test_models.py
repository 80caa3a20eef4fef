"""pretrain, finetune, eval and generate through the real command line."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import REPO, Ran, tree_bytes, write_jsonl

Gptctl = Callable[..., Ran]
PRETRAIN = (
    "--preset",
    "test-modern",
    "--steps",
    "24",
    "--set",
    "checkpoint.every=6",
    "--set",
    "eval_every=12",
    "--set",
    "model.dropout=0.1",
)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("operations", [(43,), pytest.param((9, 24), marks=pytest.mark.slow)], ids=["late", "early"])
@pytest.mark.slow
def test_pretrain_killed_at_any_moment_ends_with_the_same_weights(
    gptctl: Gptctl, workspace: Path, tmp_path: Path, operations: tuple[int, ...]
) -> None:
    assert gptctl("pretrain", workspace / "tokens", "-o", "whole", *PRETRAIN).code == 0
    for operation in operations:
        run = f"killed{operation}"
        killed = gptctl("pretrain", workspace / "tokens", "-o", run, *PRETRAIN, fault=f"kill:{operation}")
        assert killed.code == -signal.SIGKILL, killed.err
        done = gptctl("pretrain", workspace / "tokens", "-o", run, *PRETRAIN)
        assert done.code == 0, done.err
        assert weights(tmp_path / run) == weights(tmp_path / "whole")
    if operations == (43,):
        assert "going on from step " in done.err
        events = [json.loads(line) for line in (tmp_path / "killed43" / "events.jsonl").read_text().splitlines()]
        assert "resumed" in [event["event"] for event in events]


@pytest.mark.slow
def test_pretrain_stopped_by_a_signal_saves_and_goes_on(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gptctl",
        "pretrain",
        str(workspace / "tokens"),
        "-o",
        "run",
        "--preset",
        "test-modern",
        "--steps",
        "100000",
        "--set",
        "log_every=1",
    ]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = subprocess.Popen(
            command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPO)}
        )
        events, before = tmp_path / "run" / "events.jsonl", 0
        if events.exists():
            before = events.read_text().count('"step"')
        while not events.exists() or events.read_text().count('"step"') <= before + 3:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert b"training stopped after step" in err
        assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert gptctl("inspect", "run").code == 0


def test_pretrain_extends_and_reports(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    first = gptctl("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-modern", "--steps", "4", "--json")
    assert first.code == 0
    assert {"steps", "tokens", "train_loss", "val_loss", "tokens_per_second", "parameters"} <= set(
        first.json["metrics"]
    )
    more = gptctl("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-modern", "--steps", "8", "--json")
    assert (more.code, more.json["metrics"]["steps"]) == (0, 8)
    assert gptctl("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-modern", "--steps", "4").code == 5
    assert (tmp_path / "run" / "loss.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_pretrain_diverges_with_code_6(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl(
        "pretrain",
        workspace / "tokens",
        "-o",
        "run",
        "--preset",
        "test-gpt2",
        "--lr",
        "1e30",
        "--steps",
        "50",
        "--set",
        "training.grad_clip=0",
        "--set",
        "training.warmup_steps=0",
    )
    assert done.code == 6, done.err
    assert "diverged at step" in done.err


@pytest.mark.slow
def test_pretrain_with_two_processes(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    one = gptctl(
        "pretrain",
        workspace / "tokens",
        "-o",
        "one",
        "--preset",
        "test-modern",
        "--steps",
        "6",
        "--device",
        "cpu",
        "--json",
    )
    two = gptctl(
        "pretrain",
        workspace / "tokens",
        "-o",
        "two",
        "--preset",
        "test-modern",
        "--steps",
        "6",
        "--device",
        "cpu",
        "--nproc-per-node",
        "2",
        "--json",
    )
    assert (one.code, two.code) == (0, 0), two.err
    assert two.json["metrics"]["val_loss"] == pytest.approx(one.json["metrics"]["val_loss"], abs=1e-3)


@pytest.mark.slow
def test_time_and_token_budgets(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl(
        "pretrain", workspace / "tokens", "-o", "timed", "--preset", "test-modern", "--max-minutes", "0.05", "--json"
    )
    assert done.code == 0
    assert done.json["metrics"]["steps"] > 0
    done = gptctl(
        "pretrain", workspace / "tokens", "-o", "counted", "--preset", "test-modern", "--train-tokens", "3k", "--json"
    )
    assert 3000 <= done.json["metrics"]["tokens"] < 4000


def test_eval_scores_of_model_and_of_its_predictions_agree(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    scored = gptctl("eval", workspace / "classifier", workspace / "labelled", "-o", "scores", "--json").json["metrics"]
    again = gptctl("eval", "--predictions", "scores", "--json").json["metrics"]
    assert {name: scored[name] for name in again} == again
    assert set(scored["splits"]) == {"val", "test"}
    assert scored["average"] == "macro"
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["f1"] == scored["f1"]
    assert b"predictions" in gptctl("inspect", "scores").out
    small = gptctl("eval", workspace / "classifier", workspace / "labelled", "--set", "batch_size=1", "--json").json[
        "metrics"
    ]
    assert small["confusion"] == scored["confusion"]


PREDICTIONS = [
    {"id": i, "label": a, "pred": b} for i, (a, b) in enumerate(zip("aaaaabbbcc", "aaaabbbacb", strict=True))
]


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.parquet", "p.arrow", "-"])
def test_predictions_of_any_system(name: str, gptctl: Gptctl, tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    table = pa.Table.from_pylist([row | {"id": str(row["id"])} for row in PREDICTIONS])
    lines = "".join(json.dumps(row) + "\n" for row in PREDICTIONS).encode()
    if name == "p.jsonl":
        (tmp_path / name).write_bytes(lines)
    elif name == "p.csv":
        pyarrow.csv.write_csv(table, tmp_path / name)
    elif name == "p.parquet":
        pyarrow.parquet.write_table(table, tmp_path / name)
    elif name == "p.arrow":
        with pa.ipc.new_file(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    metrics = gptctl("eval", "--predictions", name, "--json", stdin=lines if name == "-" else b"").json["metrics"]
    assert [round(metrics[m], 4) for m in ("accuracy", "precision", "recall", "f1")] == [0.7, 0.7667, 0.6556, 0.6794]
    assert metrics["n"] == 10


def test_gates(gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", PREDICTIONS)
    assert gptctl("eval", "--predictions", "p.jsonl", "--fail-under", "f1=0.6").code == 0
    missed = gptctl("eval", "--predictions", "p.jsonl", "--fail-under", "f1=0.68", "--json")
    assert missed.code == 7
    assert missed.json["metrics"]["f1"] == pytest.approx(0.6794, abs=1e-4)
    assert "f1 0.6794 < 0.68" in missed.err
    assert gptctl("eval", "--predictions", "p.jsonl", "--fail-under", "nope=1").code == 2


@pytest.mark.parametrize(
    ("rows", "code", "word"),
    [
        ([{"label": "a"}], 3, "no column 'pred'"), ([{"label": None, "pred": "a"}], 3, "row 1"), ([], 3, "0 rows"),
        ([{"id": 1, "label": "a", "pred": "a"}] * 2, 3, "repeats the id '1'"),
    ],
)  # fmt: skip
def test_bad_predictions(rows: list[dict[str, str]], code: int, word: str, gptctl: Gptctl, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", rows)
    done = gptctl("eval", "--predictions", "p.jsonl")
    assert (done.code, done.out) == (code, b"")
    assert word in done.err


@pytest.mark.slow
def test_perplexity_does_not_depend_on_batch_and_gains_from_context(
    gptctl: Gptctl, workspace: Path, tmp_path: Path
) -> None:
    data = workspace / "raw.jsonl"
    runs = [
        gptctl("eval", workspace / "run", data, "--json", "--limit", "10", *more).json["metrics"]
        for more in ((), ("--set", "batch_size=1"), ("--set", "stride=16"))
    ]
    assert runs[0]["bits_per_byte"] == pytest.approx(runs[1]["bits_per_byte"], abs=1e-6)
    assert runs[2]["bits_per_byte"] < runs[0]["bits_per_byte"]
    assert runs[0]["perplexity"] == pytest.approx(math.exp(runs[0]["loss"]))


@pytest.mark.slow
def test_generate_repeats_and_differs_by_seed(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    command = ("generate", workspace / "run", "The statement", "--max-tokens", "20")
    first = gptctl(*command)
    assert first.code == 0
    assert first.out.decode().startswith("The statement")
    assert gptctl(*command).out == first.out
    assert gptctl(*command, "--seed", "1").out != first.out
    greedy = gptctl(*command, "--temperature", "0", "--json").json["metrics"]["samples"][0]
    assert (greedy["prompt"], greedy["tokens"]) == ("The statement", 20)
    likeliest = gptctl(*command, "--top-k", "1", "--json").json["metrics"]["samples"][0]
    assert likeliest["text"] == greedy["text"]


@pytest.mark.slow
def test_generate_samples_do_not_depend_on_their_batch(gptctl: Gptctl, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("The\nA longer prompt than the first\nWith\n")
    for out, batch in (("a", 1), ("b", 16)):
        assert (
            gptctl(
                "generate",
                workspace / "run",
                "--prompts",
                "p.txt",
                "-o",
                out,
                "--num",
                "2",
                "--max-tokens",
                "12",
                "--set",
                f"batch_size={batch}",
            ).code
            == 0
        )
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")
    shown = gptctl("inspect", "a", "--limit", "0", "--format", "jsonl").out.decode().splitlines()
    rows = [json.loads(line) for line in shown]
    assert [row["id"] for row in rows] == [f"p.txt:{i}#{n}" for i in range(3) for n in range(2)]
    assert rows[0]["text"] != rows[1]["text"]


def test_generate_refuses_a_classifier(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl("generate", workspace / "classifier", "x")
    assert (done.code, "classifier" in done.err) == (3, True)


def test_a_checkpoint_is_a_model(gptctl: Gptctl, workspace: Path) -> None:
    checkpoint = sorted((workspace / "run" / "checkpoints").glob("step-*"))[-1]
    from_run = gptctl("generate", workspace / "run", "The", "--max-tokens", "8")
    assert gptctl("generate", checkpoint, "The", "--max-tokens", "8").out == from_run.out


@pytest.mark.parametrize(
    "output", ["clean", "unique", "tokens", "run", "run/model", "classifier", "clean/shards/part-00000.arrow"]
)
def test_inspect_every_kind_of_output(output: str, gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl("inspect", workspace / output)
    assert done.code == 0, done.err
    assert b"kind" in done.out
    if output == "tokens":
        row = json.loads(gptctl("inspect", workspace / output, "--limit", "1", "--format", "jsonl").out)
        assert row["text"].endswith("<|endoftext|>")
        assert len(row["text"].removesuffix("<|endoftext|>").encode()) == row["n_bytes"]


def test_generate_for_another_prompt_is_a_conflict(gptctl: Gptctl, workspace: Path) -> None:
    assert gptctl("generate", workspace / "run", "Once", "-o", "s", "--max-tokens", "4").code == 0
    assert (
        gptctl("generate", workspace / "run", "Once", "-o", "s", "--max-tokens", "4", "--json").json["counts"]["in"]
        == 1
    )
    assert gptctl("generate", workspace / "run", "Twice", "-o", "s", "--max-tokens", "4").code == 5
    assert gptctl("generate", workspace / "run", "--prompts", "-", "--max-tokens", "4").code == 3


def test_training_data_is_never_scored_as_val(gptctl: Gptctl, workspace: Path) -> None:
    done = gptctl("eval", workspace / "classifier", workspace / "labelled" / "train.jsonl", "--json")
    assert done.json["metrics"]["split"] == "train"


@pytest.mark.slow
def test_fewer_steps_are_a_conflict_and_other_processes_are_not(gptctl: Gptctl, workspace: Path) -> None:
    assert gptctl("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-modern", "--steps", "6").code == 0
    assert gptctl("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-modern", "--steps", "5").code == 5
    same = gptctl(
        "pretrain",
        workspace / "tokens",
        "-o",
        "run",
        "--preset",
        "test-modern",
        "--steps",
        "6",
        "--device",
        "auto",
        "--nproc-per-node",
        "2",
        "--json",
    )
    assert (same.code, same.json["status"]) == (0, "up to date")
