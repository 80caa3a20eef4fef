"""The linear model over words: what it learns, that it is always the same, and damage to its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss

from gptctl.core.errors import DataError
from gptctl.text.word_models import training
from gptctl.text.word_models.features import hash_texts
from gptctl.text.word_models.ngram_model import SETTINGS, WEIGHTS, NgramModel, load_ngram_model
from tests.text.word_models import labelled

NAMES = ("bad", "good")
SEEN, UNSEEN = labelled()[::2], labelled()[1::2]


def column(texts: Sequence[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def texts_of(rows: Sequence[dict[str, str]]) -> list[str]:
    return [row["text"] for row in rows]


def truth(rows: Sequence[dict[str, str]]) -> list[int]:
    return [NAMES.index(row["label"]) for row in rows]


def train(seed: int = 0) -> NgramModel:
    table = pa.table({"text": column(texts_of(SEEN))})
    return training.train_ngram_model(table, truth(SEEN), NAMES, seed, lambda _: None)


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return train()


def test_as_accurate_as_a_regression_of_scikit_learn(model: NgramModel) -> None:
    """On texts that it has not seen, as a logistic regression over the same n-grams without hashing."""
    found = training.scores(model.probabilities(column(texts_of(UNSEEN))), truth(UNSEEN))
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"[^\W_]+", binary=True)
    peer = LogisticRegression(C=100, max_iter=1000).fit(words.fit_transform(texts_of(SEEN)), truth(SEEN))
    expected = accuracy_score(truth(UNSEEN), peer.predict(words.transform(texts_of(UNSEEN))))
    assert found["accuracy"] > expected - 0.02


def test_scores_are_those_of_scikit_learn(model: NgramModel) -> None:
    probabilities, labels = model.probabilities(column(texts_of(UNSEEN))), truth(UNSEEN)
    predicted = probabilities.argmax(axis=1)
    found = training.scores(probabilities, labels)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found["loss"] == pytest.approx(log_loss(labels, probabilities))


def test_ngrams_are_those_of_plain_python() -> None:
    """Texts have as many n-grams as different words and pairs of words, and equal ones in any text are one bucket."""
    texts = [*texts_of(SEEN[:40]), "", None, "Été ÉTÉ été", "北京北京", "a b a b c"]
    features = hash_texts(column(texts), 2, 2**24)
    known: dict[int, str] = {}
    for row, text in enumerate(texts):
        words = re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", (text or "").lower())
        grams = {*words, *map(" ".join, pairwise(words))}
        buckets = features.buckets[features.offsets[row] : features.offsets[row + 1]].tolist()
        ordered = dict.fromkeys(
            g for k, w in enumerate(words) for g in (w, *[f"{w} {n}" for n in words[k + 1 : k + 2]])
        )
        assert set(ordered) == grams
        for gram, bucket in zip(ordered, buckets, strict=True):
            assert known.setdefault(bucket, gram) == gram


def test_batches_and_runs_do_not_change_it(model: NgramModel) -> None:
    """One text alone has the score that it has among others, and the same seed gives the same weights."""
    together = model.probabilities(column(texts_of(UNSEEN)))
    alone = [model.probabilities(column([text]))[0] for text in texts_of(UNSEEN[:20])]
    assert np.array_equal(together[:20], alone)
    assert np.array_equal(train().weights, model.weights)
    assert not np.array_equal(train(seed=1).weights, model.weights)


def test_files_hold_the_model(model: NgramModel, tmp_path: Path) -> None:
    model.save(tmp_path, {})
    read = load_ngram_model(tmp_path)
    assert (read.labels, read.ngrams) == (model.labels, model.ngrams)
    assert np.array_equal(read.weights, model.weights)
    assert np.array_equal(read.bias, model.bias)


@pytest.mark.parametrize("text", [*texts_of(UNSEEN[:30]), "", "Été ÉTÉ 北京 a_b İ", "ก็ x\u0301 \u0301y", "the " * 9])
def test_weights_of_words_add_up_to_the_score(model: NgramModel, text: str) -> None:
    good = model.probabilities(column([text]))[0, 1]
    total = sum(model.weights_of(text, 1).values()) + model.bias[1] - model.bias[0]
    assert total == pytest.approx(np.log(good / (1 - good)), abs=1e-6)


@pytest.mark.parametrize("name", [SETTINGS, WEIGHTS])
@pytest.mark.parametrize("cut", [0, 100, -1])
def test_damaged_files_are_refused(model: NgramModel, tmp_path: Path, name: str, cut: int) -> None:
    model.save(tmp_path, {})
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: cut - 1] if cut < 0 else data[:cut])
    with pytest.raises(DataError, match=r"damaged|checksum"):
        load_ngram_model(tmp_path)
