"""How per-class values become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gptctl.core.errors import UsageError
from gptctl.evals.metrics import f1, precision
from gptctl.evals.scoring.averages import Averaging, average_classes, zero_division_warnings
from gptctl.evals.scoring.confusion import ClassCounts, confusion_matrix
from tests.evals.metrics.values import value


def test_unknown_names_are_usage_errors_with_a_guess() -> None:
    wrong: Any = "marco"
    with pytest.raises(UsageError, match="did you mean 'macro'"):
        Averaging(wrong)
    with pytest.raises(UsageError, match="no set of classes is called 'marco'"):
        Averaging(macro_over=wrong)


def test_binary_without_positive() -> None:
    with pytest.raises(UsageError, match="needs a positive label") as caught:
        Averaging("binary")
    assert caught.value.exit_code == 2


def test_positive_outside_the_label_set() -> None:
    with pytest.raises(UsageError, match="'spam' is not in the label set") as caught:
        value(f1, confusion_matrix(["spams", "ham"], ["ham", "ham"]), "binary", "spam")
    assert "did you mean 'spams'" in caught.value.message
    assert caught.value.hint == "known: ham, spams"


def test_many_matrices_at_once_give_what_each_gives_alone() -> None:
    confusions = [confusion_matrix("aabbc", guess, "abc") for guess in ("aabbc", "abcab", "ccccc", "bbbbb")]
    counts = [confusion.class_counts() for confusion in confusions]
    stacked = ClassCounts(
        counts[0].labels,
        np.stack([one.tp for one in counts]),
        np.stack([one.predicted for one in counts]),
        np.stack([one.support for one in counts]),
    )
    for average in ("macro", "micro", "weighted", "binary"):
        averaging = Averaging(average, positive="b")
        together = average_classes(f1.class_fraction(stacked), stacked, averaging)
        assert together.tolist() == [value(f1, confusion, average, "b") for confusion in confusions]


def test_a_warning_names_at_most_ten_classes() -> None:
    labels = [f"{number:02}" for number in range(14)]
    counts = confusion_matrix(labels, ["00"] * 14).class_counts()
    [warning] = zero_division_warnings("precision", precision.class_fraction(counts)[1], counts, Averaging())
    assert warning.startswith("precision is 0/0 for class '01', '02'")
    assert warning.endswith("'10' and 3 more: counted as 0")


def test_a_binary_warning_is_about_the_positive_class() -> None:
    counts = confusion_matrix("aab", "aaa", "abc").class_counts()
    assert zero_division_warnings("precision", counts.predicted, counts, Averaging("binary", "a")) == []
    assert zero_division_warnings("precision", counts.predicted, counts, Averaging("binary", "c", "nan")) == [
        "precision is 0/0 for class 'c': left out of the mean"
    ]
