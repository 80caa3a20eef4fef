"""The classification report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.classification import classification_metrics
from gptctl.evals.scoring.confusion import ConfusionMatrix, confusion_matrix
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.report import Report, to_report

ALL = ["accuracy", "precision", "recall", "f1"]
TEN = confusion_matrix("aaaaabbbcc", "aaaabbbacb")


def report(
    confusion: ConfusionMatrix,
    metrics: list[str],
    average: Any = "macro",
    positive: str | None = None,
    *,
    zero_division: Any = 0.0,
    macro_over: Any = "present",
    ci: Any = "auto",
    seed: int = 0,
) -> Report:
    """Return the report on a confusion matrix."""
    options = ScoringOptions(averaging=Averaging(average, positive, zero_division, macro_over), ci=ci, seed=seed)
    return to_report(classification_metrics(confusion, metric_plugins.select(metrics, "labels"), options), options)


def rounded(values: dict[str, float]) -> list[float]:
    return [round(values[name], 4) for name in ("precision", "recall", "f1")]


def test_values_by_average() -> None:
    macro = report(TEN, ALL)
    assert (macro["n"], macro["invalid"], macro["average"], macro["accuracy"]) == (10, 0, "macro", 0.7)
    assert rounded(macro) == [0.7667, 0.6556, 0.6794]
    assert macro["averages"]["f1"] == {name: report(TEN, ALL, name)["f1"] for name in ("macro", "micro", "weighted")}
    assert rounded(report(TEN, ALL, "micro")) == [0.7, 0.7, 0.7]
    assert rounded(report(TEN, ALL, "weighted")) == [0.75, 0.7, 0.7048]


def test_per_class_and_confusion() -> None:
    found = report(TEN, ["f1"])
    assert {label: [*rounded(row), row["support"]] for label, row in found["per_class"].items()} == {
        "a": [0.8, 0.8, 0.8, 5],
        "b": [0.5, 0.6667, 0.5714, 3],
        "c": [1.0, 0.5, 0.6667, 2],
    }
    assert found["confusion"] == {
        "labels": ["a", "b", "c"],
        "matrix": [[4, 1, 0], [1, 2, 0], [0, 1, 1]],
        "invalid": [0, 0, 0],
    }
    assert "accuracy" not in found


def test_binary() -> None:
    confusion = confusion_matrix("11100000", "10010000")
    assert rounded(report(confusion, ALL, "binary", "1")) == [0.5, 0.3333, 0.4]
    assert rounded(report(confusion, ALL, "binary", "0")) == [0.6667, 0.8, 0.7273]
    without = report(confusion, ALL)
    assert (round(without["f1"], 4), without["accuracy"]) == (0.5636, 0.625)


def test_binary_needs_a_positive_label_of_the_set() -> None:
    with pytest.raises(UsageError, match="positive label"):
        report(TEN, ["f1"], "binary")
    for average in ("binary", "macro"):
        with pytest.raises(UsageError, match="'z' is not in the label set"):
            report(TEN, ["f1"], average, "z")


def test_a_class_that_is_never_predicted_is_named() -> None:
    confusion = confusion_matrix("0011", "0000")
    found = report(confusion, ALL)
    assert rounded(found) == [0.25, 0.5, 0.3333]
    assert found["warnings"] == ["precision is 0/0 for class '1': counted as 0"]
    assert rounded(report(confusion, ALL, zero_division=1.0)) == [0.75, 0.5, 0.3333]
    assert rounded(report(confusion, ALL, zero_division="nan")) == [0.5, 0.5, 0.3333]


def test_invalid_predictions_are_counted_and_wrong() -> None:
    found = report(confusion_matrix("ABAB", "ABAz", "AB"), ALL)
    assert (found["invalid"], found["accuracy"], round(found["f1"], 4)) == (1, 0.75, 0.8333)
    assert found["confusion"]["invalid"] == [0, 1]


def test_absent_classes() -> None:
    confusion = confusion_matrix("0011", "0111", "012")
    found = report(confusion, ["f1"])
    assert (found["absent"], round(found["f1"], 4)) == (["2"], 0.7333)
    assert round(report(confusion, ["f1"], macro_over="all")["f1"], 4) == 0.4889


def test_intervals_are_in_the_order_of_the_metrics() -> None:
    found = report(TEN, ["f1", "accuracy"], seed=1)["intervals"]
    assert list(found) == ["f1", "accuracy"]
    assert found["accuracy"] == pytest.approx([0.3968, 0.8922], abs=5e-5)
    assert found["f1"] == pytest.approx([0.28, 1.0], abs=0.02)
    assert report(TEN, ["f1"], ci="none")["intervals"] == {}


def test_a_thousand_times_the_rows_narrow_the_interval() -> None:
    found = report(confusion_matrix("aaaaabbbcc" * 1000, "aaaabbbacb" * 1000), ALL)
    assert rounded(found) == [0.7667, 0.6556, 0.6794]
    assert found["intervals"]["accuracy"] == pytest.approx([0.6909, 0.7089], abs=5e-5)


def test_the_same_seed_gives_the_same_bytes_of_strict_json() -> None:
    confusion = confusion_matrix("0011", [None, "0", "0", "0"], "012")
    once, again = (json.dumps(report(confusion, ALL, zero_division="nan", seed=7), allow_nan=False) for _ in range(2))
    assert once == again


def test_unknown_metric_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'acuracy' \(did you mean 'accuracy'\?\)") as caught:
        report(TEN, ["acuracy"])
    assert caught.value.hint and "accuracy" in caught.value.hint and "hamming_loss" in caught.value.hint


def test_a_metric_of_other_rows_names_those_of_these() -> None:
    with pytest.raises(UsageError, match="perplexity is not defined for labels") as caught:
        report(TEN, ["perplexity"])
    assert caught.value.hint and "accuracy" in caught.value.hint


def test_labels_that_only_look_the_same_are_told() -> None:
    confusion = confusion_matrix(["\u00e9", "x"], ["e\u0301", "x"])
    assert report(confusion, ["f1"])["warnings"][-1].startswith("two labels look the same")


def test_no_rows() -> None:
    with pytest.raises(DataError, match="0 rows"):
        report(confusion_matrix([], []), ALL)


def test_one_row_and_one_class() -> None:
    found = report(confusion_matrix("a", "a"), ALL)
    assert rounded(found) == [1.0, 1.0, 1.0]
    assert found["intervals"]["f1"] == [1.0, 1.0]
