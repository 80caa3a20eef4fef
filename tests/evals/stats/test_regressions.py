"""Is a result worse than an earlier one?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.metric_results import Values
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats import compare, regressions
from tests.evals.command import pairs, write


def result(right: int, rows: int) -> Values:
    return scorer.score(
        pairs("ab" * (rows // 2), ["a" if i % 2 == (i >= right) else "b" for i in range(rows)]), "labels", Options()
    )


def test_noise_does_not_fail() -> None:
    [check] = regressions.from_figures(result(78, 100), result(80, 100), ["accuracy"], 0.05)
    assert check.passed
    assert check.message == "accuracy 0.7800, before 0.8000, p 0.726"


def test_a_real_loss_fails_and_a_real_gain_does_not() -> None:
    [check] = regressions.from_figures(result(500, 1000), result(800, 1000), ["accuracy"], 0.05)
    assert not check.passed
    assert check.message.startswith("accuracy 0.5000 is worse than 0.8000 before (p ")
    [check] = regressions.from_figures(result(800, 1000), result(500, 1000), ["accuracy"], 0.05)
    assert check.passed


def test_alpha_decides() -> None:
    new, old = result(700, 1000), result(740, 1000)
    assert not regressions.from_figures(new, old, ["accuracy"], 0.05)[0].passed
    assert regressions.from_figures(new, old, ["accuracy"], 0.01)[0].passed


def test_lower_is_better_for_losses() -> None:
    low, high = (scorer.score([{"nats": n, "bytes": 10, "tokens": 5}] * 3, "nats", Options()) for n in (5, 9))
    assert not regressions.from_figures(high, low, ["bits_per_byte"], 0.05)[0].passed
    assert regressions.from_figures(low, high, ["bits_per_byte"], 0.05)[0].passed


def test_the_same_rows_see_more_than_the_figures() -> None:
    gold = "ab" * 100
    before = list(gold[:190]) + ["b", "a"] * 5
    now = ["z"] * 8 + before[8:]
    figures = [scorer.score(pairs(gold, p), "labels", Options(metrics=("accuracy",))) for p in (now, before)]
    assert regressions.from_figures(figures[0], figures[1], ["accuracy"], 0.05)[0].passed
    comparison = compare.compare(pairs(gold, now), pairs(gold, before), "labels", Options())
    checks = {check.name: check.passed for check in regressions.from_rows(comparison, ["accuracy", "f1"], 0.05)}
    assert checks == {"accuracy has not become worse": False, "f1 has not become worse": False}


def test_results_without_intervals_are_refused() -> None:
    with pytest.raises(DataError, match="no interval for accuracy"):
        regressions.from_figures(result(5, 10), {"n": 10, "accuracy": 0.5}, ["accuracy"], 0.05)


def test_what_an_earlier_result_can_be(tmp_path: Path) -> None:
    found = result(5, 10)
    for document in (found, {"schema": 1, "metrics": found}):
        (tmp_path / "old.json").write_text(json.dumps(document))
        assert regressions.earlier(str(tmp_path / "old.json")) == json.loads(json.dumps(found))
    rows = regressions.earlier(str(write(tmp_path / "old.jsonl", pairs("ab", "ab"))))
    assert isinstance(rows, list) and len(rows) == 2
    assert regressions.earlier(None) is None


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', "{"])
def test_what_it_cannot_be(text: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(DataError):
        regressions.earlier(str(tmp_path / "old.json"))
    with pytest.raises(UsageError, match="no such file"):
        regressions.earlier(str(tmp_path / "absent.json"))
