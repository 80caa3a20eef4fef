"""A filter from labelled texts to a cleaned dataset, through the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptctl import load
from gptctl.core.errors import DataError
from gptctl.io.dataset import manifest
from tests.conftest import Ran, tree_bytes, write_jsonl
from tests.text.word_models import labelled

Gptctl = Callable[..., Ran]
TRAIN = ("finetune", "none", "labelled.jsonl", "--task", "filter", "-o")
CLEAN = ("clean", "labelled.jsonl", "--filters", "classifier", "--set", "classifier.model=quality", "-o")


@pytest.fixture
def labelled_file(tmp_path: Path) -> Path:
    rows = [row | {"fold": number % 3} for number, row in enumerate(labelled()[:400])]
    return write_jsonl(tmp_path / "labelled.jsonl", rows)


def test_from_labels_to_a_dataset(gptctl: Gptctl, labelled_file: Path, tmp_path: Path) -> None:
    done = gptctl(*TRAIN, "quality", "--json")
    assert done.code == 0, done.err
    assert done.json["metrics"]["best_val_accuracy"] > 0.9
    assert done.json["metrics"]["labels"] == ["bad", "good"]
    assert gptctl("doctor", "quality").code == 0
    cleaned = gptctl(*CLEAN, "-", "--keep-rejects")
    assert cleaned.code == 2
    cleaned = gptctl(*CLEAN, "good", "--json")
    assert cleaned.code == 0, cleaned.err
    counts = cleaned.json["counts"]
    assert counts["dropped"] == {"classifier.threshold": counts["in"] - counts["kept"]}
    kept = rows_of(gptctl, CLEAN[:-1], "good")
    assert all(row["quality_score"] >= 0.5 for row in kept)
    assert sum(row["label"] == "good" for row in kept) > 0.95 * len(kept)
    retrained = gptctl(*TRAIN, "quality", "--seed", "1", "--force")
    assert retrained.code == 0, retrained.err
    changed = gptctl(*CLEAN, "good")
    assert (changed.code, "classifier.model differs" in changed.err) == (5, True)


def test_the_best_share_is_kept(gptctl: Gptctl, labelled_file: Path, tmp_path: Path) -> None:
    """The tenth with the highest scores of what earlier filters keep; --dry-run and --explain use a score of the kind."""
    assert gptctl(*TRAIN, "quality").code == 0
    scored = ("clean", "labelled.jsonl", "--filters", "length,classifier", "--set", "classifier.model=quality")
    scores = rows_of(gptctl, (*scored, "--set", "classifier.threshold=0", "--set", "length.min_chars=60"), "all")
    share = (*scored, "--set", "length.min_chars=60", "--set", "classifier.keep_fraction=0.1")
    best = rows_of(gptctl, share, "best")
    lowest = sorted((row["quality_score"] for row in scores), reverse=True)[-(-len(scores) // 10) - 1]
    assert [row["id"] for row in best] == [row["id"] for row in scores if row["quality_score"] >= lowest]
    assert manifest.read(tmp_path / "best").metrics["lowest_score"] == lowest
    assert manifest.read(tmp_path / "best").counts.dropped["classifier.keep_fraction"] == len(scores) - len(best)
    planned = gptctl(*share, "-o", "plan", "--dry-run", "--json").json["plan"]["sample"]
    assert planned["kept"] == -(-(planned["in"] - planned["dropped"]["length.min_chars"]) // 10)
    worst = min(scores, key=lambda row: row["quality_score"])["id"]
    rules = gptctl(*share, "--explain", worst, "--json").json["metrics"]
    assert (rules["verdict"], rules["rules"][-1]["threshold"]) == ("dropped", lowest)
    weights = list(map(abs, rules["rules"][-1]["words"].values()))
    assert 0 < len(weights) <= 20
    assert weights == sorted(weights, reverse=True)
    assert b"words that decided classifier.keep_fraction" in gptctl(*share, "--explain", worst).out
    both = gptctl(*share, "-o", "both", "--set", "classifier.threshold=0.1")
    assert (both.code, "no effect beside classifier.keep_fraction" in both.err) == (2, True), both.err


def rows_of(gptctl: Gptctl, command: tuple[str, ...], out: str) -> list[dict[str, Any]]:
    """Run a command with the output `out`, and return its rows."""
    done = gptctl(*command, "-o", out)
    assert done.code == 0, done.err
    return [json.loads(line) for line in gptctl("inspect", out, "--limit", "0", "--format", "jsonl").out.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--set", "classifier.keep_fraction=0.3")])
def test_workers_and_pipes_give_the_same(
    gptctl: Gptctl, labelled_file: Path, tmp_path: Path, extra: tuple[str, ...]
) -> None:
    assert gptctl(*TRAIN, "quality").code == 0
    assert gptctl(*CLEAN, "one", *extra).code == 0
    assert gptctl(*CLEAN, "two", "--workers", "2", *extra).code == 0
    assert tree_bytes(tmp_path / "two") == tree_bytes(tmp_path / "one")
    (tmp_path / "stream").write_bytes(
        gptctl("clean", "labelled.jsonl", "--preset", "none", "--set", "identify_language=false", "-o", "-").out
    )
    stream = (tmp_path / "stream").read_bytes()
    assert gptctl("clean", "-", *CLEAN[2:], "piped", *extra, stdin=stream).code == 0
    rows = [gptctl("inspect", name, "--limit", "0", "--format", "jsonl").out for name in ("one", "piped")]
    assert rows[0] == rows[1]


def test_folds_are_predicted_by_models_that_have_not_seen_them(
    gptctl: Gptctl, labelled_file: Path, tmp_path: Path
) -> None:
    done = gptctl(*TRAIN, "folds", "--fold-column", "fold", "--json")
    assert done.code == 0, done.err
    scored = gptctl("eval", "--predictions", "folds/held-out.arrow", "--json").json["metrics"]
    assert scored["n"] == 400
    assert scored["accuracy"] == pytest.approx(done.json["metrics"]["held_out_accuracy"], abs=0.01)
    assert scored["accuracy"] > 0.9
    assert gptctl(*TRAIN, "folds", "--fold-column", "fold", "--json").json["status"] == "up to date"


def test_what_does_not_fit_is_refused(gptctl: Gptctl, labelled_file: Path) -> None:
    for values, said in {
        ("none", "--task", "classify"): "--task classify starts from a model",
        ("run", "--task", "filter"): "--task filter starts from no model, not run",
        ("none", "--task", "filter", "--epochs", "9"): "--epochs has no effect with --task filter",
        ("none", "--task", "filter", "--set", "training.lr=1"): "training.lr has no effect with --task filter",
    }.items():
        done = gptctl("finetune", values[0], "labelled.jsonl", "-o", "out", *values[1:])
        assert (done.code, said in done.err) == (2, True), done.err
    done = gptctl("clean", "labelled.jsonl", "-o", "out", "--filters", "classifier")
    assert (done.code, "the filter classifier has nothing to drop" in done.err) == (2, True), done.err


def test_other_commands_name_what_it_is(gptctl: Gptctl, labelled_file: Path) -> None:
    assert gptctl(*TRAIN, "quality").code == 0
    done = gptctl("eval", "quality", "labelled.jsonl")
    assert (done.code, "a model for clean --filters classifier" in done.err) == (3, True), done.err
    assert (
        "hint: it is used by: gptctl clean TEXTS -o good --filters classifier --set classifier.model=quality"
        in done.err
    )
    with pytest.raises(DataError, match="a model for clean --filters classifier"):
        load(labelled_file.parent / "quality")
