"""Score texts with a classifier of fastText. Probabilities are those that its `predict` returns, but never above 1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.text.arrow_arrays import string_buffers
from gptctl.text.kernels import fasttext as kernels
from gptctl.text.word_models.fasttext_file import CHUNK_ROWS, FastTextFile, Matrix, QuantizedMatrix, read_fasttext
from gptctl.text.word_models.ngram_model import Probabilities, against_others

EPSILON = 1e-5  # fastText adds it to every probability before it takes the logarithm
SIGMOID_STEPS, SIGMOID_LIMIT = 512, 8  # fastText looks up the sigmoid function in a table


@dataclass(frozen=True)
class FastTextModel:
    """A classifier of fastText.

    The rows of a text are averaged and multiplied with the output matrix. If there are fewer labels than dimensions,
    `matrix` is the product of both (rows, labels), which is smaller and saves the multiplication; otherwise it is the
    input matrix.
    """

    file: FastTextFile
    labels: tuple[str, ...]
    matrix: Matrix
    slots: NDArray[np.int32]
    is_product: bool

    @cached_property
    def settings(self) -> NDArray[np.int64]:
        """The settings for the kernels."""
        file = self.file
        return np.array([file.ngrams, file.buckets, file.minn, file.maxn, file.dictionary.words], np.int64)

    def probabilities(self, text: pa.LargeStringArray) -> Probabilities:
        """Return the probability of each label for each text (texts, labels). All are 0 if no word is known.

        A line end is white space. Raises DataError (3) if the weights of a text are not all numbers.
        """
        offsets, data = string_buffers(pc.fill_null(text, ""))
        known = self.file.dictionary
        sums = np.zeros((len(text), self.matrix.shape[1]), np.float64)
        counts = np.zeros(len(text), np.int64)
        kernels.sum_rows(
            data, offsets, known.data, known.starts, known.ends, known.kinds, self.slots, self.settings, known.pruned,
            self.matrix, sums, counts,
        )  # fmt: skip
        if not np.isfinite(sums).all():  # the input matrix is not read as a whole before
            raise DataError(
                "the model of fastText is damaged: its weights are not all numbers", "copy it again, or train it again"
            )
        sums /= np.maximum(counts, 1)[:, None]
        found = self.activate(sums if self.is_product else sums @ self.file.output.T.astype(np.float64))
        found[counts == 0] = 0
        return found

    def weights_of(self, text: str, label: int) -> dict[str, float]:
        """Return what each part of a text adds to the log odds of a label, compared with the mean of the others.

        Character n-grams count for their word. A hierarchical softmax has no such weights: the result is empty.
        """
        if self.file.loss == "hs":
            return {}
        data, known = np.frombuffer(text.encode(), np.uint8), self.file.dictionary
        room = kernels.most_rows.py_func(len(data), self.settings.tolist())
        rows, spans, count = np.empty(room, np.int32), np.empty((room, 2), np.int64), np.zeros(1, np.int64)
        kernels.describe_rows(
            data, known.data, known.starts, known.ends, known.kinds, self.slots, self.settings, known.pruned, rows,
            spans, count,
        )  # fmt: skip
        used = self.matrix[rows[: count[0]]].astype(np.float64)
        products = used if self.is_product else used @ self.file.output.T.astype(np.float64)
        weights = against_others(products, label) if self.file.loss == "softmax" else products[:, label]
        keys = spans[: count[0], 0] * (len(data) + 1) + spans[: count[0], 1]
        parts, numbers = np.unique(keys, return_inverse=True)
        totals = np.bincount(numbers, weights / max(1, count[0]), len(parts))
        found: dict[str, float] = {}
        for key, weight in zip(parts.tolist(), totals.tolist(), strict=True):
            low, high = divmod(key, len(data) + 1)
            words = data[low:high].tobytes().decode("utf-8", "replace").replace("\0", " ").split()
            part = " ".join(words) or "</s>"
            found[part] = found.get(part, 0.0) + weight
        return found

    def activate(self, products: NDArray[np.float64]) -> Probabilities:
        """Return probabilities from the products with the output matrix (texts, its rows)."""
        if self.file.loss == "softmax":
            found = np.exp(products - products.max(axis=1, keepdims=True))
            found /= found.sum(axis=1, keepdims=True)
        elif self.file.loss == "hs":
            known = self.file.dictionary
            found = np.minimum(descend(products, known.counts[known.words :]), 1)
            return np.where(found < EPSILON, 0, found)  # fastText does not report smaller ones
        else:
            found = sigmoid(products)
        return np.asarray(np.minimum(found + EPSILON, 1))


def load_fasttext(path: Path) -> FastTextModel:
    """Read a model. Raises DataError (3) for a file that is damaged, of another version, or not a classifier."""
    file = read_fasttext(path)
    known = file.dictionary
    slots = np.full(1 << (2 * len(known.starts)).bit_length(), -1, np.int32)
    kernels.index_words(known.data, known.starts, known.ends, slots)
    labels = known.labels()
    is_product = len(labels) <= file.input.shape[1]
    factor = file.output.T if is_product else None
    matrix = multiply(file.input, factor)
    if factor is not None and not np.isfinite(matrix).all():
        raise DataError(f"{path} is damaged: its weights are not all numbers", "copy it again, or train it again")
    return FastTextModel(file, labels, matrix, slots, is_product)


def multiply(matrix: Matrix | QuantizedMatrix, factor: Matrix | None) -> Matrix:
    """Return a matrix, times a factor if there is one. It is read a part at a time."""
    if factor is None and not isinstance(matrix, QuantizedMatrix):
        return matrix
    rows, columns = matrix.shape
    found = np.empty((rows, columns if factor is None else factor.shape[1]), np.float32)
    for start in range(0, rows, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, rows)
        part = matrix.rows(start, stop) if isinstance(matrix, QuantizedMatrix) else matrix[start:stop]
        found[start:stop] = part if factor is None else part @ factor
    return found


def sigmoid(values: NDArray[np.float64]) -> Probabilities:
    """Return the sigmoid function as fastText computes it: from a table with 512 steps between -8 and 8."""
    steps = np.arange(SIGMOID_STEPS + 1) * (2 * SIGMOID_LIMIT / SIGMOID_STEPS) - SIGMOID_LIMIT
    table = (1 / (1 + np.exp(-steps))).astype(np.float32).astype(np.float64)
    inside = np.clip(values, -SIGMOID_LIMIT, SIGMOID_LIMIT).astype(np.float32)
    positions = ((inside + SIGMOID_LIMIT) * SIGMOID_STEPS / SIGMOID_LIMIT / 2).astype(np.int64)
    return np.where(values < -SIGMOID_LIMIT, 0.0, np.where(values > SIGMOID_LIMIT, 1.0, table[positions]))


def descend(products: NDArray[np.float64], counts: NDArray[np.int64]) -> Probabilities:
    """Return the probability of each leaf of the tree of a hierarchical softmax, from the products of inner nodes."""
    leaves = len(counts)
    left, right = huffman_tree(counts)
    reached = np.ones((len(products), 2 * leaves - 1))
    for node in range(2 * leaves - 2, leaves - 1, -1):
        to_right = 1 / (1 + np.exp(-products[:, node - leaves]))
        reached[:, left[node]] = reached[:, node] * (1 - to_right + EPSILON)
        reached[:, right[node]] = reached[:, node] * (to_right + EPSILON)
    return reached[:, :leaves]


def huffman_tree(counts: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Return the left and right child of each node. Leaves come first and have these counts, which fall."""
    leaves = len(counts)
    total = [*counts.tolist(), *[10**15] * (leaves - 1)]
    left, right = [-1] * len(total), [-1] * len(total)
    leaf, inner = leaves - 1, leaves
    for node in range(leaves, len(total)):
        chosen = []
        for _ in range(2):
            if leaf >= 0 and total[leaf] < total[inner]:
                chosen.append(leaf)
                leaf -= 1
            else:
                chosen.append(inner)
                inner += 1
        left[node], right[node] = chosen
        total[node] = total[left[node]] + total[right[node]]
    return left, right
