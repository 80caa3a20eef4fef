"""Two systems on the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gptctl.core.errors import DataError
from gptctl.evals.comparison import compare
from gptctl.evals.scoring.options import ScoringOptions
from tests.evals.command import pairs

FIRST = pairs("a" * 20, "a" * 18 + "bb")
SECOND = pairs("a" * 20, "a" * 8 + "b" * 10 + "aa")


def test_mcnemar_by_hand() -> None:
    found = compare.compare_rows(FIRST, SECOND, "labels", ScoringOptions())
    assert found["mcnemar"] == {"b": 10, "c": 2, "p": pytest.approx(0.0386, abs=5e-5)}
    assert found["accuracy"]["difference"] == pytest.approx(0.4)
    assert 0.05 < found["accuracy"]["interval"][0] < 0.4 < found["accuracy"]["interval"][1] < 0.75


def test_nothing_tells_a_system_from_itself() -> None:
    found = compare.compare_rows(FIRST, FIRST, "labels", ScoringOptions())
    assert found["mcnemar"]["p"] == 1.0
    assert (found["f1"]["difference"], found["f1"]["interval"], found["f1"]["p"]) == (0.0, [0.0, 0.0], 1.0)


@pytest.mark.parametrize("swapped", [False, True])
def test_only_one_system_gives_probabilities(swapped: bool) -> None:
    """What both have is compared: it was an internal error."""
    sure = [row | {"probs": [0.9, 0.1] if row["pred"] == "a" else [0.1, 0.9]} for row in FIRST]
    systems = (SECOND, sure) if swapped else (sure, SECOND)
    found = compare.compare_rows(*systems, "labels", ScoringOptions(labels=("a", "b")))
    assert {"mcnemar", "accuracy", "f1"} <= found.keys() and not {"ece", "brier", "nll"} & found.keys()
    assert abs(found["accuracy"]["difference"]) == pytest.approx(0.4)


def test_pairing_sees_what_two_samples_hide() -> None:
    """One system has what the other has right, and three rows more."""
    gold = "ab" * 100
    worse = ["a"] * 60 + list(gold[60:])
    better = list(worse)
    better[1] = better[3] = better[5] = better[7] = better[9] = better[11] = better[13] = "b"
    found = compare.compare_rows(pairs(gold, better), pairs(gold, worse), "labels", ScoringOptions())
    assert found["mcnemar"]["p"] == pytest.approx(2 / 2**7)
    assert found["f1"]["p"] < 0.02
    assert found["f1"]["interval"][0] > 0


def test_bits_per_byte_are_compared_on_the_same_documents() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(50, 500, 80)
    noise = generator.normal(0, 0.2, 80)
    rows: list[dict[str, Any]] = [
        {"id": i, "nats": float(s * (1 + n)), "bytes": int(s), "tokens": int(s)}
        for i, (s, n) in enumerate(zip(sizes, noise, strict=True))
    ]
    others = [row | {"nats": row["nats"] * 1.01} for row in rows]
    found = compare.compare_rows(rows, others, "lm_scores", ScoringOptions())
    assert "mcnemar" not in found
    assert found["bits_per_byte"]["interval"][1] < 0
    assert found["bits_per_byte"]["p"] < 0.001


def test_rows_are_matched_by_id_in_any_order() -> None:
    aligned = compare.align_rows(FIRST, SECOND[::-1], "other")
    assert [row["id"] for row in aligned] == list(range(20))


def test_rows_are_matched_by_split_where_both_have_one() -> None:
    rows = [{"id": 1, "split": split, "label": "a", "pred": split} for split in ("val", "test")]
    assert [row["pred"] for row in compare.align_rows(rows, rows[::-1], "other")] == ["val", "test"]


def test_what_only_one_has_is_named() -> None:
    with pytest.raises(DataError, match="other has no row with id '7'"):
        compare.align_rows(FIRST, SECOND[:7] + SECOND[8:], "other")
    with pytest.raises(DataError, match="this has no row with id '19'"):
        compare.align_rows(FIRST[:19], SECOND, "other")
    with pytest.raises(DataError, match="'1', '2', '3' and 16 more"):
        compare.align_rows(FIRST, SECOND[:1], "other")


def test_other_labels_are_refused() -> None:
    with pytest.raises(DataError, match="id '3' has the label 'a' here and 'b' in other"):
        compare.align_rows(FIRST, [row | ({"label": "b"} if row["id"] == 3 else {}) for row in SECOND], "other")


def test_labels_that_only_one_system_predicts() -> None:
    found = compare.compare_rows(pairs("ab", "ab"), pairs("ab", "az"), "labels", ScoringOptions(metrics=("f1",)))
    assert (found["f1"]["value"], found["f1"]["other"]) == (1.0, pytest.approx(1 / 3))


def test_rows_that_flipped_are_listed() -> None:
    """Those that one system got right alone, with ids and both predictions."""
    found = compare.compare_rows(FIRST, SECOND, "labels", ScoringOptions())["flipped"]
    assert [row["id"] for row in found["fixed"]] == [FIRST[number]["id"] for number in range(8, 18)]
    assert found["broken"] == [
        {"id": FIRST[number]["id"], "label": "a", "pred": "b", "other": "a"} for number in (18, 19)
    ]
