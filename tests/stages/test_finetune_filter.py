"""A filter from labelled texts to a cleaned dataset, through the real command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gptctl import load
from gptctl.core.errors import DataError
from tests.conftest import Ran, read_jsonl, tree_bytes, write_jsonl
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
    rows = gptctl("inspect", "good", "--limit", "0", "--format", "jsonl").out.splitlines()
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(rows))
    kept = read_jsonl(tmp_path / "rows.jsonl")
    assert all(row["quality_score"] >= 0.5 for row in kept)
    assert sum(row["label"] == "good" for row in kept) > 0.95 * len(kept)
    retrained = gptctl(*TRAIN, "quality", "--seed", "1", "--force")
    assert retrained.code == 0, retrained.err
    changed = gptctl(*CLEAN, "good")
    assert (changed.code, "classifier.model differs" in changed.err) == (5, True)


@pytest.mark.slow
def test_workers_and_pipes_give_the_same(gptctl: Gptctl, labelled_file: Path, tmp_path: Path) -> None:
    assert gptctl(*TRAIN, "quality").code == 0
    assert gptctl(*CLEAN, "one").code == 0
    assert gptctl(*CLEAN, "two", "--workers", "2").code == 0
    assert tree_bytes(tmp_path / "two") == tree_bytes(tmp_path / "one")
    (tmp_path / "stream").write_bytes(
        gptctl("clean", "labelled.jsonl", "--preset", "none", "--set", "identify_language=false", "-o", "-").out
    )
    assert gptctl("clean", "-", *CLEAN[2:], "piped", stdin=(tmp_path / "stream").read_bytes()).code == 0
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
    with pytest.raises(DataError, match="a model for clean --filters classifier"):
        load(labelled_file.parent / "quality")
