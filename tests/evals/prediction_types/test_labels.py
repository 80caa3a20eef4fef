"""Rows with one label: probabilities, groups, what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from gptctl.core.errors import DataError
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.options import ScoringOptions
from tests.evals.command import pairs


def with_probs(labels: str, probs: list[list[float]]) -> list[dict[str, Any]]:
    return [{"id": i, "label": label, "probs": p} for i, (label, p) in enumerate(zip(labels, probs, strict=True))]


FOUR = with_probs("0111", [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])


def test_calibration_by_hand() -> None:
    found = scorer.score(FOUR, "labels", ScoringOptions(bins=10))
    assert [round(found[name], 4) for name in ("ece", "brier", "nll")] == [0.4, 0.57, 0.8574]
    assert [(b["n"], b["confidence"], b["accuracy"]) for b in found["calibration"]] == [(2, 0.6, 1.0), (2, 0.9, 0.5)]


def test_a_bound_belongs_to_the_bin_below() -> None:
    for tenths in range(6, 11):
        row = with_probs("0", [[tenths / 10, 1 - tenths / 10]])
        found = scorer.score(row, "labels", ScoringOptions(bins=10, labels=("0", "1")))
        assert found["calibration"][0]["high"] == pytest.approx(tenths / 10)


def test_brier_and_nll_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    probs = generator.dirichlet(np.ones(3), 60)
    gold = generator.integers(0, 3, 60)
    rows = with_probs("".join("abc"[g] for g in gold), probs.tolist())
    found = scorer.score(rows, "labels", ScoringOptions())
    assert found["nll"] == pytest.approx(log_loss(gold, probs))
    ones = np.eye(3)[gold]
    assert found["brier"] == pytest.approx(((probs - ones) ** 2).sum(1).mean())
    assert scorer.score(FOUR, "labels", ScoringOptions())["brier"] == pytest.approx(
        2 * brier_score_loss([0, 1, 1, 1], [0.1, 0.1, 0.6, 0.6])
    )


def test_probability_zero_of_what_happened_is_a_number() -> None:
    found = scorer.score(with_probs("ab", [[1.0, 0.0], [1.0, 0.0]]), "labels", ScoringOptions())
    assert math.isfinite(found["nll"])


def test_the_order_of_probabilities_is_the_models() -> None:
    rows = [
        {"id": 0, "label": "x", "pred": "x", "probs": [0.2, 0.8]},
        {"id": 1, "label": "b", "pred": "b", "probs": [0.7, 0.3]},
    ]
    found = scorer.score(rows, "labels", ScoringOptions(labels=("x", "b"), probability_labels=("b", "x")))
    assert found["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.7)) / 2)


@pytest.mark.parametrize("probs", [[math.nan, 1.0], [0.5], "x", [0.9, 0.9], [-0.5, 1.5], [None, 1.0]])
def test_probabilities_that_are_none(probs: Any) -> None:
    rows = [{"id": 0, "label": "a", "probs": [0.5, 0.5]}, {"id": 1, "label": "b", "probs": probs}]
    with pytest.raises(DataError, match="row 2"):
        scorer.check_rows(rows, "labels", "test")
        scorer.score(rows, "labels", ScoringOptions())


def test_calibration_without_probabilities() -> None:
    with pytest.raises(DataError, match="ece needs probabilities"):
        scorer.score(pairs("ab", "ab"), "labels", ScoringOptions(metrics=("ece",)))


def test_groups_widen_the_interval() -> None:
    rows = pairs("ab" * 50, "ab" * 25 + "ba" * 25)
    alone = scorer.score(rows, "labels", ScoringOptions())
    grouped = scorer.score([row | {"group_id": i // 25} for i, row in enumerate(rows)], "labels", ScoringOptions())
    assert grouped["f1"] == alone["f1"]
    widths = [found["intervals"]["f1"][1] - found["intervals"]["f1"][0] for found in (alone, grouped)]
    assert widths[1] > 2 * widths[0]
    assert set(grouped["interval"]["methods"].values()) == {"groups"}


def test_many_classes_are_quick_and_need_no_matrix_in_the_report() -> None:
    labels = [str(number % 1500) for number in range(6000)]
    found = scorer.score(pairs(labels, labels), "labels", ScoringOptions(per_class=False, confusion=False, ci="none"))
    assert (found["f1"], "confusion" in found, "per_class" in found) == (1.0, False, False)
