"""Bars that a result must reach."""

from __future__ import annotations

import pytest

from gptctl.core.errors import UsageError
from gptctl.evals.gates import check, parse


def test_parse() -> None:
    assert parse("f1=0.8") == ("f1", 0.8)
    assert parse(" accuracy = 1 ") == ("accuracy", 1.0)


@pytest.mark.parametrize("text", ["f1", "f1=", "=0.8", "f1=high", "f1=nan", "f1>0.8", ""])
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(UsageError, match="is not a bar for a metric") as caught:
        parse(text)
    assert caught.value.exit_code == 2


def test_misses_name_value_and_bar() -> None:
    metrics = {"f1": 0.6793650793650793, "accuracy": 0.7}
    assert check(metrics, [("f1", 0.6), ("accuracy", 0.7)]) == []
    assert check(metrics, [("f1", 0.68), ("accuracy", 1)]) == ["f1 0.6794 < 0.68", "accuracy 0.7000 < 1"]


def test_a_narrow_miss_shows_why() -> None:
    assert check({"f1": 0.799996}, [("f1", 0.8)]) == ["f1 0.799996 < 0.8"]


def test_rounding_errors_are_no_misses() -> None:
    assert check({"f1": 0.1 + 0.7 - 1e-16}, [("f1", 0.8)]) == []


def test_a_metric_without_value_misses() -> None:
    assert check({"f1": None}, [("f1", 0.1)]) == ["f1 has no value, 0.1 was asked for"]


def test_unknown_metric() -> None:
    with pytest.raises(UsageError, match=r"'nope'") as caught:
        check({"f1": 0.5, "per_class": {}, "average": "macro"}, [("nope", 1.0)])
    assert caught.value.hint == "known: f1"
