"""Scores of documents, multiple choice, and generated text."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sacrebleu

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.options import ScoringOptions

TWO: list[dict[str, Any]] = [{"nats": 12, "bytes": 10, "tokens": 6}, {"nats": 3, "bytes": 4, "tokens": 2}]


def score(rows: list[dict[str, Any]], prediction_type: str, **options: Any) -> dict[str, Any]:
    scorer.check_rows(rows, prediction_type, "test")
    return scorer.score(rows, prediction_type, ScoringOptions(**options))


def test_sums_not_means_of_ratios() -> None:
    found = score(TWO, "lm_scores")
    assert found["bits_per_byte"] == pytest.approx(1.545745, abs=5e-7)
    assert found["perplexity"] == pytest.approx(6.520819, abs=5e-7)
    assert found["byte_perplexity"] == pytest.approx(2.919547, abs=5e-7)
    assert (found["n"], found["tokens"], found["bytes"]) == (2, 8, 14)


def test_the_order_of_documents_changes_no_digit() -> None:
    rows = [{"nats": 1 / (i + 3), "bytes": i, "tokens": 1} for i in range(500)]
    assert (
        score(rows, "lm_scores", ci="none")["bits_per_byte"]
        == score(rows[::-1], "lm_scores", ci="none")["bits_per_byte"]
    )


def test_nothing_scored_and_unspeakably_bad_have_no_value() -> None:
    empty = score([{"nats": 0, "bytes": 0, "tokens": 0}], "lm_scores")
    assert (empty["bits_per_byte"], empty["perplexity"], empty["intervals"]["loss"]) == (None, None, None)
    assert score([{"nats": 1e6, "bytes": 1, "tokens": 1}], "lm_scores")["perplexity"] is None


@pytest.mark.parametrize(
    "row",
    [{"nats": math.nan, "bytes": 1}, {"nats": "x", "bytes": 1}, {"nats": 1, "bytes": None}, {"nats": 1, "bytes": -1}],
)
def test_scores_that_are_invalid(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="row 1 has no usable number"):
        scorer.check_rows([row], "lm_scores", "test")


CHOICES: list[dict[str, Any]] = [
    {"choices": ["日本", "abcd"], "loglik": [-6, -8], "label": 0, "tokens": [2, 4]},
    {"choices": ["no", "no way"], "loglik": [-4, -6], "label": "no", "tokens": [1, 2]},
]


def test_each_normalization() -> None:
    found = score(CHOICES, "choices")
    ways = {name: found[f"accuracy_{name}"] for name in ("raw", "chars", "bytes", "tokens")}
    assert ways == {"raw": 1.0, "chars": 0.0, "bytes": 0.5, "tokens": 0.0}
    assert (found["accuracy"], found["norm"], found["chance"]) == (1.0, "raw", 0.5)
    assert score(CHOICES, "choices", norm="chars")["accuracy"] == 0.0


def test_ties_go_to_the_first_and_are_counted() -> None:
    rows = [{"choices": ["a", "b"], "loglik": [-1.0, -1.0], "label": label} for label in (0, 1, 0)]
    found = score(rows, "choices")
    assert (found["accuracy"], found["ties"]["raw"]) == (pytest.approx(2 / 3), 3)
    assert "3 of 3 rows have several likeliest choices" in found["warnings"][0]


def test_norm_tokens_needs_tokens() -> None:
    with pytest.raises(UsageError, match="needs the tokens of each choice"):
        score([{"choices": ["a", "b"], "loglik": [-1, -2], "label": 0}], "choices", norm="tokens")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loglik": [math.nan, -1]}, "not a finite number"), ({"loglik": [None, -1]}, "not a finite number"), ({"loglik": [-1]}, "no list of 2"),
        ({"choices": ["", "b"]}, "an empty choice"), ({"choices": ["a"]}, "two or more"), ({"label": 2}, "neither one of its choices nor"),
        ({"label": None}, "neither one of its choices nor"), ({"tokens": [1, 0]}, "without tokens"),
    ],
)  # fmt: skip
def test_choices_that_are_none(change: dict[str, Any], message: str) -> None:
    row = {"choices": ["a", "b"], "loglik": [-1, -2], "label": 0} | change
    with pytest.raises(DataError, match=f"row 1 has .*{message}|row 1 has {message}"):
        scorer.check_rows([row], "choices", "test")


ANSWERS: list[dict[str, Any]] = [
    {"label": ["The cat", "dog"], "pred": "a cat!"},
    {"label": "it rains", "pred": "It is raining"},
    {"label": ["", "nothing"], "pred": None},
]


def test_answers_are_compared_as_squad_does() -> None:
    found = score(ANSWERS, "texts")
    assert found["exact_match"] == pytest.approx(2 / 3)
    assert found["token_f1"] == pytest.approx((1 + 2 * 1 / (3 + 2) + 1) / 3)


SENTENCES = [
    ("The cat sat on the mat, quietly.", ["The cat sat on a mat quietly.", "A cat was sitting on the mat."]),
    ("There is no dog in the house.", ["There isn't a dog in this house."]),
    ("", ["Nothing was said."]),
    ("Er geht heute nach Hause.", ["Er geht heute nach Hause."]),
]  # fmt: skip


def test_translation_scores_are_sacrebleus() -> None:
    rows = [{"label": references, "pred": text} for text, references in SENTENCES]
    found = score(rows, "texts", metrics=("bleu", "chrf"))
    most = max(len(references) for _, references in SENTENCES)
    streams: Any = [[r[i] if i < len(r) else None for _, r in SENTENCES] for i in range(most)]
    texts = [text for text, _ in SENTENCES]
    assert found["bleu"] == pytest.approx(sacrebleu.BLEU().corpus_score(texts, streams).score)
    assert found["chrf"] == pytest.approx(sacrebleu.CHRF().corpus_score(texts, streams).score)
    low, high = found["intervals"]["chrf"]
    assert low < found["chrf"] < high


def test_types_are_detected_by_their_columns() -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "lm_scores": TWO,
        "choices": CHOICES,
        "multilabel": [{"label": ["a"], "pred": []}],
        "labels": [{"label": "a", "pred": "b"}],
    }
    for prediction_type, given in rows.items():
        assert scorer.detect_type(given, (), "test") == prediction_type
    assert scorer.detect_type(ANSWERS, ("bleu",), "test") == "texts"
    with pytest.raises(DataError, match=r"no column 'label' in row 1; it has: id"):
        scorer.detect_type([{"id": 1}], (), "test")
    with pytest.raises(DataError, match="0 rows"):
        scorer.detect_type([], (), "test")
