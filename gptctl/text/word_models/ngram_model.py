"""The linear model that gptctl trains: a softmax classifier over hashed n-grams of words, and its files.

classifier.json          the labels, the longest n-gram, the number of buckets, and the metrics of the training
classifier.safetensors   the weights of those buckets that have any, and the bias of each label
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gptctl.core import atomic
from gptctl.core.errors import DataError, from_os_error
from gptctl.text.arrow_arrays import strings
from gptctl.text.kernels import ngrams
from gptctl.text.word_models.features import Features, hash_texts, ngrams_of

FORMAT = "gptctl word n-grams 1"
SETTINGS, WEIGHTS = "classifier.json", "classifier.safetensors"
Probabilities = NDArray[np.float64]


class StoredModel(BaseModel):
    """The content of classifier.json."""

    model_config = ConfigDict(strict=True)

    format: str
    labels: list[str] = Field(min_length=2)
    ngrams: int = Field(ge=1, le=9)
    buckets: int = Field(ge=2, le=2**30)
    weights: str  # the xxh3-128 checksum of classifier.safetensors
    metrics: dict[str, Any] = {}


@dataclass(frozen=True)
class NgramModel:
    """The weights (buckets, labels) and the bias of each label."""

    labels: tuple[str, ...]
    ngrams: int
    weights: NDArray[np.float32]
    bias: NDArray[np.float64]

    def features(self, text: pa.LargeStringArray) -> Features:
        """Return the n-grams of some texts."""
        return hash_texts(text, self.ngrams, len(self.weights))

    def probabilities(self, text: pa.LargeStringArray) -> Probabilities:
        """Return the probability of each label for each text (texts, labels)."""
        return self.probabilities_of(self.features(text))

    def probabilities_of(self, features: Features) -> Probabilities:
        """Return the probability of each label for each document, of which the n-grams are known."""
        sums = np.tile(self.bias, (len(features), 1))
        ngrams.sum_weights(features.buckets, features.offsets, self.weights, sums)
        sums = np.exp(sums - sums.max(axis=1, keepdims=True))
        return np.asarray(sums / sums.sum(axis=1, keepdims=True))

    def weights_of(self, text: str, label: int) -> dict[str, float]:
        """Return what each n-gram of a text adds to the log odds of a label, compared with the mean of the others.

        With two labels, the sum of all and of the difference between the biases is the log odds.
        """
        grams = ngrams_of(text, self.ngrams)
        if not grams:
            return {}
        found = hash_texts(strings(list(grams)), self.ngrams, len(self.weights))
        buckets = found.buckets[np.minimum(found.offsets[:-1] + list(grams.values()), found.offsets[1:]) - 1]
        _, first = np.unique(buckets, return_index=True)  # of n-grams in the same bucket, the first
        weights = against_others(self.weights[buckets[first]].astype(np.float64), label) / np.sqrt(len(first))
        return {name: float(weights[number]) for number, name in enumerate(np.array(list(grams))[first].tolist())}

    def save(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the model's files into a folder."""
        used = np.flatnonzero(self.weights.any(axis=1)).astype(np.int32)
        tensors: dict[str, NDArray[Any]] = {"buckets": used, "weights": self.weights[used], "bias": self.bias}
        data = save(tensors)
        stored = StoredModel(
            format=FORMAT,
            labels=list(self.labels),
            ngrams=self.ngrams,
            buckets=len(self.weights),
            weights=xxhash.xxh3_128_hexdigest(data),
            metrics=metrics,
        )
        atomic.write_bytes(folder / WEIGHTS, data)
        atomic.write_json(folder / SETTINGS, stored.model_dump())


def against_others(weights: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """Return the weights of a label minus the mean weights of the other labels."""
    others = np.delete(weights, label, axis=1)
    return np.asarray(weights[:, label] - others.mean(axis=1))


def load_ngram_model(folder: Path) -> NgramModel:
    """Read the model of a folder. Raises DataError (3) if a file is missing, damaged or of another version."""
    try:
        stored = StoredModel.model_validate(json.loads((folder / SETTINGS).read_bytes()))
        data = (folder / WEIGHTS).read_bytes()
        if stored.format != FORMAT:
            raise DataError(f"{folder / SETTINGS} has the format '{stored.format}'", f"gptctl reads '{FORMAT}'")
        if stored.weights != xxhash.xxh3_128_hexdigest(data):
            raise DataError(f"checksum mismatch: {folder / WEIGHTS}", "copy the folder again, or train again")
        tensors = load(data)
        weights = np.zeros((stored.buckets, len(stored.labels)), np.float32)
        weights[tensors["buckets"]] = tensors["weights"]
        bias = tensors["bias"].astype(np.float64).reshape(len(stored.labels))
    except OSError as error:
        raise from_os_error(error, folder) from error
    except (ValueError, KeyError, IndexError, RecursionError, SafetensorError, ValidationError) as error:
        raise DataError(f"the classifier in {folder} is damaged", "copy it again, or train it again") from error
    return NgramModel(tuple(stored.labels), stored.ngrams, weights, bias)
