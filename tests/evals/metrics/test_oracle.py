"""Every metric against scikit-learn, on random labels with absent classes, invalid predictions and all kinds of 0/0."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_recall_fscore_support

from gptctl.evals.metrics import accuracy, f1, mcc, precision, recall
from gptctl.evals.scoring.confusion import ConfusionMatrix, confusion_matrix
from tests.evals.metrics.values import per_class, value

CASES = 300
METRICS = (precision, recall, f1)
ZERO_DIVISIONS: tuple[Any, ...] = (0.0, 1.0, "nan")
AVERAGES = ("macro", "micro", "weighted")
INVALID = "invalid"


def random_case(case: int) -> tuple[list[str], list[str], list[str]]:
    """Return gold, predictions and a label set; every second case predicts things that are not in it."""
    generator = np.random.default_rng(case)
    classes = int(generator.integers(1, 7))
    labels = [f"class {index}" for index in range(classes)]
    rows = int(generator.integers(1, 30))
    skew = generator.dirichlet(np.full(classes, 0.5))
    gold = generator.choice(labels, rows, p=skew)
    guesses = generator.choice(labels + ([INVALID] if case % 2 else []), rows)
    return gold.tolist(), np.where(generator.random(rows) < 0.5, gold, guesses).tolist(), labels


def expected(
    case: tuple[list[str], list[str], list[str]], average: str | None, zero_division: Any, labels: list[str]
) -> Any:
    zero = np.nan if zero_division == "nan" else zero_division
    return precision_recall_fscore_support(case[0], case[1], labels=labels, average=average, zero_division=zero)


def same(ours: float | None, theirs: float) -> bool:
    return math.isnan(theirs) if ours is None else math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-15)


def confusion_of(case: tuple[list[str], list[str], list[str]]) -> ConfusionMatrix:
    return confusion_matrix(case[0], [None if guess == INVALID else guess for guess in case[1]], case[2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("average", "zero_division"), list(product(AVERAGES, ZERO_DIVISIONS)))
def test_averages(average: Any, zero_division: Any) -> None:
    for number in range(CASES):
        case = random_case(number)
        confusion = confusion_of(case)
        seen = [label for label in case[2] if label not in confusion.absent()]
        over: Any = ("present", "all")[number % 3 == 0]
        theirs = expected(case, average, zero_division, seen if over == "present" else case[2])
        for metric, expect in zip(METRICS, theirs, strict=False):
            ours = value(metric, confusion, average, None, zero_division, over)
            assert same(ours, expect), (number, metric.__name__, over, ours, expect)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zero_division", ZERO_DIVISIONS)
def test_per_class_and_binary(zero_division: Any) -> None:
    for number in range(CASES):
        case = random_case(number)
        confusion = confusion_of(case)
        theirs = expected(case, None, zero_division, case[2])
        for metric, values in zip(METRICS, theirs, strict=False):
            for (label, ours), expect in zip(per_class(metric, confusion, zero_division).items(), values, strict=True):
                assert same(ours, expect), (number, metric.__name__, label)
                assert value(metric, confusion, "binary", label, zero_division) == ours


def test_accuracy() -> None:
    for number in range(CASES):
        case = random_case(number)
        assert same(value(accuracy, confusion_of(case)), accuracy_score(case[0], case[1]))


@pytest.mark.filterwarnings("ignore:A single label was found in 'y_true':UserWarning")  # of some cases, which are meant
def test_matthews_correlation() -> None:
    for number in range(CASES):
        case = random_case(number)
        expect = matthews_corrcoef(case[0], case[1])
        assert value(mcc, confusion_of(case)) == pytest.approx(expect, abs=1e-12), number
