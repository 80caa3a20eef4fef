"""Train the linear model over n-grams of words. One recipe serves all data, so there is nothing to tune.

Stochastic gradient descent on the softmax loss, one document at a time, without regularization (as fastText, Joulin et
al. 2016, "Bag of Tricks for Efficient Text Classification"), but the weights are those of the n-grams themselves, each
counted once per document, and every description has length 1. On reviews of films, five folds:

    passes, rate   accuracy   loss
    10, 1          0.872      0.344
    5, 4           0.873      0.310
    10, 4          0.874      0.312
    25, 4          0.875      0.316
    10, 16         0.867      0.833

fastText with pairs of words, 25 epochs and its best learning rate (1.0) has 0.840.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.io.dataset.schema import slices
from gptctl.text.arrow_arrays import combine
from gptctl.text.kernels import ngrams
from gptctl.text.word_models.features import Features, hash_texts, join
from gptctl.text.word_models.ngram_model import NgramModel, Probabilities

NGRAMS, BUCKETS = 2, 2**21
PASSES, RATE = 10, 4.0
SLICE_BYTES = 2**22
Labels = NDArray[np.int32]


def train_ngram_model(
    table: pa.Table, labels: Sequence[int], names: Sequence[str], seed: int, after_pass: Callable[[int], None]
) -> NgramModel:
    """Return a model trained on the texts of a table. `labels` has the position of each text's label in `names`.

    The seed decides the order of the texts, which is another one in each pass. `after_pass` is called with the number
    of passes that are finished.
    """
    features, truth = features_of(table), np.asarray(labels, np.int32)
    model = NgramModel(
        tuple(names), NGRAMS, np.zeros((BUCKETS, len(names)), np.float32), np.zeros(len(names), np.float64)
    )
    random = np.random.default_rng(seed)
    for number in range(PASSES):
        rates = [RATE * (1 - done / PASSES) for done in (number, number + 1)]
        order = random.permutation(len(truth)).astype(np.int64)
        ngrams.train_pass(features.buckets, features.offsets, truth, order, *rates, model.weights, model.bias)
        after_pass(number + 1)
    return model


def features_of(table: pa.Table) -> Features:
    """Return the n-grams of a table's texts."""
    parts = (combine(part["text"]) for part in slices(table, SLICE_BYTES))
    return join([hash_texts(text, NGRAMS, BUCKETS) for text in parts])


def scores(probabilities: Probabilities, labels: Sequence[int]) -> dict[str, Any]:
    """Return the mean loss, the accuracy, and macro F1 over the labels that occur as truth or prediction.

    All are NaN if there are no texts.
    """
    count = probabilities.shape[1]
    truth = np.asarray(labels, np.int64)
    if not len(truth):
        return dict.fromkeys(("loss", "accuracy", "f1"), float("nan"))
    found = np.bincount(truth * count + probabilities.argmax(axis=1), minlength=count**2).reshape(count, count)
    right, sizes = found.diagonal(), found.sum(axis=0) + found.sum(axis=1)
    chosen = probabilities[np.arange(len(truth)), truth]
    return {
        "loss": float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean()),
        "accuracy": float(right.sum() / len(truth)),
        "f1": float((2 * right[sizes > 0] / sizes[sizes > 0]).mean()),
    }
