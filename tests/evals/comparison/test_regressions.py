"""Is a result worse than an earlier one?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.comparison import compare, regressions
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.report import Report
from tests.evals.command import pairs, write


def result(right: int, rows: int) -> Report:
    return scorer.score(
        pairs("ab" * (rows // 2), ["a" if i % 2 == (i >= right) else "b" for i in range(rows)]),
        "labels",
        ScoringOptions(),
    )


def test_noise_does_not_fail() -> None:
    [check] = regressions.check_reports(result(78, 100), result(80, 100), ["accuracy"], 0.05)
    assert check.passed
    assert check.message == "accuracy 0.7800, before 0.8000, p 0.726"


def test_a_real_loss_fails_and_a_real_gain_does_not() -> None:
    [check] = regressions.check_reports(result(500, 1000), result(800, 1000), ["accuracy"], 0.05)
    assert not check.passed
    assert check.message.startswith("accuracy 0.5000 is worse than 0.8000 before (p ")
    [check] = regressions.check_reports(result(800, 1000), result(500, 1000), ["accuracy"], 0.05)
    assert check.passed


def test_alpha_decides() -> None:
    new, old = result(700, 1000), result(740, 1000)
    assert not regressions.check_reports(new, old, ["accuracy"], 0.05)[0].passed
    assert regressions.check_reports(new, old, ["accuracy"], 0.01)[0].passed


def test_lower_is_better_for_losses() -> None:
    low, high = (
        scorer.score([{"nats": n, "bytes": 10, "tokens": 5}] * 3, "lm_scores", ScoringOptions()) for n in (5, 9)
    )
    assert not regressions.check_reports(high, low, ["bits_per_byte"], 0.05)[0].passed
    assert regressions.check_reports(low, high, ["bits_per_byte"], 0.05)[0].passed


def test_the_same_rows_detect_more_than_the_reports() -> None:
    gold = "ab" * 100
    before = list(gold[:190]) + ["b", "a"] * 5
    now = ["z"] * 8 + before[8:]
    reports = [scorer.score(pairs(gold, p), "labels", ScoringOptions(metrics=("accuracy",))) for p in (now, before)]
    assert regressions.check_reports(reports[0], reports[1], ["accuracy"], 0.05)[0].passed
    comparison = compare.compare_rows(pairs(gold, now), pairs(gold, before), "labels", ScoringOptions())
    checks = {check.name: check.passed for check in regressions.check_rows(comparison, 0.05)}
    assert (checks["accuracy has not become worse"], checks["f1 has not become worse"]) == (False, False)


def test_results_without_intervals_are_refused() -> None:
    with pytest.raises(DataError, match="no interval for accuracy"):
        regressions.check_reports(result(5, 10), {"n": 10, "accuracy": 0.5}, ["accuracy"], 0.05)


def test_what_an_earlier_result_can_be(tmp_path: Path) -> None:
    found = result(5, 10)
    for document in (found, {"schema": 1, "metrics": found}):
        (tmp_path / "old.json").write_text(json.dumps(document))
        assert regressions.read_earlier(str(tmp_path / "old.json")) == json.loads(json.dumps(found))
    rows = regressions.read_earlier(str(write(tmp_path / "old.jsonl", pairs("ab", "ab"))))
    assert isinstance(rows, list) and len(rows) == 2
    assert regressions.read_earlier(None) is None


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', "{"])
def test_what_it_cannot_be(text: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(DataError):
        regressions.read_earlier(str(tmp_path / "old.json"))
    with pytest.raises(UsageError, match="no such file"):
        regressions.read_earlier(str(tmp_path / "absent.json"))
