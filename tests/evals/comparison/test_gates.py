"""Thresholds that a result must reach."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gptctl.core.errors import UsageError
from gptctl.evals.comparison.gates import Gate, check_gates, failure, parse


def missed(metrics: Mapping[str, object], *thresholds: str) -> list[str]:
    error = failure(check_gates(metrics, [parse(text) for text in thresholds]))
    return error.message.split("; ") if error else []


def test_parse() -> None:
    assert parse("f1=0.8") == Gate("f1", 0.8)
    assert parse(" accuracy = 1 ") == Gate("accuracy", 1.0)
    assert parse("per_class.a=b.recall=0.5") == Gate("per_class.a=b.recall", 0.5)
    assert parse("perplexity=20", "over") == Gate("perplexity", 20.0, "over")


@pytest.mark.parametrize("text", ["f1", "f1=", "=0.8", "f1=high", "f1=nan", "f1>0.8", ""])
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(UsageError, match="is not a threshold for a metric") as caught:
        parse(text)
    assert caught.value.exit_code == 2


def test_a_threshold_on_the_wrong_side_says_which_is_right() -> None:
    with pytest.raises(UsageError, match="better when it is lower") as caught:
        parse("perplexity=20")
    assert caught.value.hint == "write --set fail_over=perplexity=20"
    with pytest.raises(UsageError, match="better when it is higher") as caught:
        parse("f1=0.5", "over")
    assert caught.value.hint == "write --fail-under=f1=0.5"


def test_misses_name_value_and_bar() -> None:
    metrics = {"f1": 0.6793650793650793, "accuracy": 0.7}
    assert missed(metrics, "f1=0.6", "accuracy=0.7") == []
    assert missed(metrics, "f1=0.68", "accuracy=1") == ["f1 0.6794 < 0.68", "accuracy 0.7000 < 1"]
    error = failure(check_gates({"nll": 0.5}, [parse("nll=0.4", "over")]))
    assert error is not None and (error.exit_code, error.message) == (7, "nll 0.5000 > 0.4")


def test_passed_gates_are_told_too() -> None:
    [found] = check_gates({"f1": 0.75}, [parse("f1=0.5")])
    assert (found.passed, found.name, found.message) == (True, "f1 >= 0.5", "f1 is 0.75")


def test_numbers_inside_tables_have_dotted_names() -> None:
    result = {"per_class": {"spam": {"recall": 0.4}}, "baselines": {"nb": {"lift": {"f1": -0.1}}}}
    assert missed(result, "per_class.spam.recall=0.5", "baselines.nb.lift.f1=0") == [
        "per_class.spam.recall 0.4000 < 0.5",
        "baselines.nb.lift.f1 -0.1000 < 0",
    ]


def test_a_narrow_miss_shows_why() -> None:
    assert missed({"f1": 0.799996}, "f1=0.8") == ["f1 0.799996 < 0.8"]


def test_rounding_errors_are_no_misses() -> None:
    assert missed({"f1": 0.1 + 0.7 - 1e-16}, "f1=0.8") == []


def test_a_metric_without_value_misses() -> None:
    assert missed({"f1": None}, "f1=0.1") == ["f1 has no value, the threshold is 0.1"]


def test_a_dotted_name_is_answered_with_those_that_end_alike() -> None:
    report = {"f1": 0.5, "n": 4, "splits": {"val": {"f1": 0.4, "n": 2}, "test": {"f1": 0.5, "n": 2}}}
    with pytest.raises(UsageError, match=r"'val.f1' \(did you mean 'splits.val.f1'\?\)") as caught:
        check_gates(report, [parse("val.f1=0.3")])
    assert caught.value.hint == "known: splits.test.f1, splits.val.f1, f1, n"


def test_unknown_metric() -> None:
    with pytest.raises(UsageError, match=r"'nope'") as caught:
        check_gates({"f1": 0.5, "per_class": {}, "average": "macro"}, [Gate("nope", 1.0)])
    assert caught.value.hint == "known: f1"
