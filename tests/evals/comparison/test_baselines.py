"""Baselines that a classifier must beat."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from gptctl.core.errors import UsageError
from gptctl.evals.comparison import baselines
from gptctl.evals.comparison.baselines import MajorityClassifier, NaiveBayesClassifier
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.scoring.split_predictions import TrainingTexts
from tests.conftest import SHARED_DATA, documents, read_jsonl

TEXTS = ["good film", "good and fine", "bad film", "bad , so bad", "fine"]
LABELS = ["pos", "pos", "neg", "neg", "pos"]


def test_majority_is_the_commonest_label() -> None:
    assert MajorityClassifier.fit(TrainingTexts(TEXTS, LABELS)).predict(["x", "y"]) == ["pos", "pos"]
    assert MajorityClassifier.fit(TrainingTexts(["", ""], ["b", "a"])).predict(["x"]) == ["a"]


def test_grams_are_words_and_pairs_each_once() -> None:
    assert baselines.grams("So bad, so BAD!") == ["so", "bad", ",", "!", "so bad", "bad ,", ", so", "bad !"]


def test_grams_of_other_scripts() -> None:
    """Marks belong to their letter, and Chinese is segmented."""
    assert baselines.grams("किताब का") == ["किताब", "का", "किताब का"]
    assert baselines.grams("发展很快。") == ["发展", "很快", "。", "发展 很快", "很快 。"]


def test_naive_bayes_is_scikit_learns() -> None:
    rows = documents(120, words=40)
    texts = [row["text"] for row in rows]
    labels = [("long" if len(text) > 260 else "short") + str(len(text) % 3) for text in texts]

    def grams(text: str) -> list[str]:
        words = baselines.split_words(text.lower())
        return [*words, *(" ".join(pair) for pair in pairwise(words))]

    counter = CountVectorizer(analyzer=grams, binary=True)
    train = counter.fit_transform(texts[:80])
    theirs = MultinomialNB(alpha=1.0).fit(train, labels[:80]).predict(counter.transform(texts[80:]))
    ours = NaiveBayesClassifier.fit(TrainingTexts(texts[:80], labels[:80])).predict(texts[80:])
    assert ours == theirs.tolist()
    assert len(set(ours)) > 1


def test_words_never_seen_leave_the_prior() -> None:
    assert NaiveBayesClassifier.fit(TrainingTexts(TEXTS, LABELS)).predict(["", "qqq zzz"]) == ["pos", "pos"]


def test_the_comparison_has_lift_and_mcnemar() -> None:
    rows = [{"id": i, "label": label, "pred": label} for i, label in enumerate(LABELS)]
    found = baselines.compare_with_baselines(
        baselines.add_predictions(rows, TEXTS, ["majority", "nb"], TrainingTexts(TEXTS, LABELS)),
        ["majority", "nb"],
        ScoringOptions(metrics=("accuracy", "f1")),
    )
    assert found["majority"]["accuracy"] == pytest.approx(0.6)
    assert found["majority"]["lift"]["accuracy"] == pytest.approx(0.4)
    assert found["majority"]["mcnemar"] == {"b": 2, "c": 0, "p": 0.5}
    assert found["nb"]["lift"] == {"accuracy": 0.0, "f1": 0.0}


def test_unknown_baseline() -> None:
    with pytest.raises(UsageError, match=r"no baseline is called 'mayority' \(did you mean 'majority'\?\)"):
        baselines.check_names(["mayority"])


@pytest.mark.skipif(not (SHARED_DATA / "trec").exists(), reason="the TREC questions are not on this machine")
def test_trec_is_what_the_documentation_says() -> None:
    train, test = (read_jsonl(SHARED_DATA / "trec" / f"{name}.jsonl") for name in ("train", "test"))
    data = TrainingTexts([row["text"] for row in train], [row["label"] for row in train])
    predicted = NaiveBayesClassifier.fit(data).predict([row["text"] for row in test])
    assert np.mean([pred == row["label"] for pred, row in zip(predicted, test, strict=True)]) == pytest.approx(0.82)
