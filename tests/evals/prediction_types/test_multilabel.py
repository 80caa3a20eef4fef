"""Rows with several labels, against scikit-learn and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, hamming_loss, precision_recall_fscore_support

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.options import ScoringOptions
from tests.evals.command import pairs

CASES = 200
NAMES = ("precision", "recall", "f1")


def report(rows: list[dict[str, Any]], average: Any = "macro", zero: Any = 0.0, **more: Any) -> dict[str, Any]:
    scorer.check_rows(rows, "multilabel", "test")
    return scorer.score(
        rows, "multilabel", ScoringOptions(averaging=Averaging(average, zero_division=zero), ci="none", **more)
    )


def random_case(number: int) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]], tuple[str, ...]]:
    generator = np.random.default_rng(number)
    classes, rows = int(generator.integers(2, 7)), int(generator.integers(1, 25))
    gold = generator.random((rows, classes)) < generator.choice([0.1, 0.5])
    pred = np.where(generator.random((rows, classes)) < 0.7, gold, generator.random((rows, classes)) < 0.4)
    labels = tuple(f"c{index}" for index in range(classes))

    def named(table: np.ndarray) -> list[list[str]]:
        return [[labels[column] for column in np.flatnonzero(row)] for row in table]

    return gold, pred, pairs(named(gold), named(pred)), labels


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zero", [0.0, 1.0, "nan"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "samples"])
def test_averages_are_scikit_learns(average: str, zero: Any) -> None:
    for number in range(CASES):
        gold, pred, rows, labels = random_case(number)
        found = report(rows, average, zero, labels=labels)
        seen = (gold | pred).any(axis=0)
        if not seen.any():
            continue
        counted = np.flatnonzero(seen) if average in ("macro", "weighted") else np.arange(len(labels))
        expected = precision_recall_fscore_support(
            gold.astype(int), pred.astype(int), average=average, zero_division=float(zero), labels=counted
        )
        for name, value in zip(NAMES, expected, strict=False):
            same = found[name] is None if math.isnan(value) else found[name] == pytest.approx(value, abs=1e-12)
            assert same, (number, name, found[name], value)


def test_subsets_and_hamming_loss_are_scikit_learns() -> None:
    for number in range(CASES):
        gold, pred, rows, labels = random_case(number)
        found = report(rows, labels=labels)
        assert found["subset_accuracy"] == pytest.approx(accuracy_score(gold, pred))
        assert found["hamming_loss"] == pytest.approx(hamming_loss(gold.astype(int), pred.astype(int)))


def test_two_empty_sets_count_as_zero_division() -> None:
    rows = pairs([[], ["a"]], [[], ["a"]])
    assert report(rows, "samples")["f1"] == 0.5
    assert report(rows, "samples", 1.0)["f1"] == 1.0
    assert report(rows, "samples", "nan")["f1"] == 1.0


def test_predictions_outside_the_set_spoil_their_row_only() -> None:
    found = report(pairs([["a"], ["b"]], [["a", "zzz"], None]), labels=("a", "b"))
    assert (found["invalid"], found["subset_accuracy"]) == (2, 0.0)
    assert found["per_class"]["a"]["precision"] == 1.0


def test_gold_outside_the_set_names_the_row() -> None:
    with pytest.raises(DataError, match=r"row 2: label 'z' is not in the label set \(a\)"):
        report(pairs([["a"], ["z"]], [["a"], ["a"]]), labels=("a",))


def test_binary_is_refused() -> None:
    with pytest.raises(UsageError, match="rows with one label"):
        scorer.compute_metrics(
            pairs([["a"]], [["a"]]), "multilabel", ScoringOptions(averaging=Averaging("binary", "a"))
        )


@pytest.mark.parametrize(
    "row", [{"label": "a", "pred": ["a"]}, {"label": ["a"], "pred": "a"}, {"label": [None], "pred": []}]
)
def test_rows_that_are_none(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="row 1 has a"):
        scorer.check_rows([row], "multilabel", "test")


def test_intervals_of_all_averages() -> None:
    rows = pairs([["a"], ["a", "b"], ["b"]] * 40, [["a"], ["a"], ["a", "b"]] * 40)
    for average in ("macro", "micro", "weighted", "samples"):
        found = scorer.score(rows, "multilabel", ScoringOptions(averaging=Averaging(average)))
        low, high = found["intervals"]["f1"]
        assert low < found["f1"] < high
        assert high - low < 0.2
