"""Read fastText's files: .bin, and .ftz, whose matrices are quantized (Joulin et al. 2016, "FastText.zip").

magic, version                                                int32
dim, ws, epoch, minCount, neg, wordNgrams, loss, model,       int32
bucket, minn, maxn, lrUpdateRate
t                                                             float64
entries, words, labels                                        int32
tokens, pruned                                                int64
entries: word, 0, count (int64), kind (int8)
pruned: bucket, row                                           int32
whether the input is quantized (int8), the input matrix
whether the output is quantized (int8), the output matrix
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import DataError, from_os_error
from gptctl.text.kernels import fasttext as kernels

MAGIC, VERSIONS, SUPERVISED = 793712314, (11, 12), 3
LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
CENTROIDS = 256
MOST, MOST_BUCKETS, MOST_TEXTS = 20, 2**28, 10**15  # what no model in use comes near to
CHUNK_ROWS = 2**16
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Dictionary:
    """The words and labels of a model. Entry e is data[starts[e]:ends[e]]; words come before labels.

    `pruned` has the row of each bucket, or -1; it is empty if each bucket has its own.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    pruned: NDArray[np.int32]
    words: int

    def labels(self) -> tuple[str, ...]:
        """Return the labels without the prefix that marks them."""
        prefix = kernels.PREFIX.tobytes().decode()
        spans = zip(self.starts[self.words :].tolist(), self.ends[self.words :].tolist(), strict=True)
        return tuple(self.data[a:b].tobytes().decode("utf-8", "replace").removeprefix(prefix) for a, b in spans)


@dataclass(frozen=True)
class FastTextFile:
    """The content of a file: the settings that matter for scoring, the dictionary, and the matrices."""

    loss: str
    ngrams: int
    buckets: int
    minn: int
    maxn: int
    dictionary: Dictionary
    input: Matrix | QuantizedMatrix
    output: Matrix


@dataclass(frozen=True)
class QuantizedMatrix:
    """A matrix of product codes: row i consists of the centroids that codes[i] name, times a norm."""

    codes: NDArray[np.uint8]
    centroids: tuple[Matrix, ...]
    norms: Matrix | None
    shape: tuple[int, int]

    def rows(self, start: int, stop: int) -> Matrix:
        """Return some rows."""
        codes = self.codes[start:stop]
        parts = [table[codes[:, number]] for number, table in enumerate(self.centroids)]
        found = np.concatenate(parts, axis=1)
        return found if self.norms is None else found * self.norms[start:stop, None]


class Reader:
    """Takes values from the bytes of a file, one after the other. Raises ValueError where they end too early."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> NDArray[np.uint8]:
        """Return the next bytes."""
        if size < 0 or self.at + size > len(self.data):
            raise ValueError("the file is too short")
        self.at += size
        return self.data[self.at - size : self.at]

    def values(self, layout: str) -> tuple[Any, ...]:
        """Return the next values of a layout of `struct`."""
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")).tobytes())

    def array(self, dtype: Any, *shape: int) -> NDArray[Any]:
        """Return the next numbers as an array."""
        size = int(np.prod(shape, dtype=object))
        found: NDArray[Any] = self.take(size * np.dtype(dtype).itemsize).view(dtype).reshape(shape)
        return found


def is_fasttext(path: Path) -> bool:
    """Return whether a file begins as those of fastText."""
    with path.open("rb") as file:
        return file.read(4) == struct.pack("<i", MAGIC)


def read_fasttext(path: Path) -> FastTextFile:
    """Read a file, whose input matrix stays on disk until it is used.

    Raises DataError (3) for a file that is damaged, of another version, or not a classifier.
    """
    try:
        reader = Reader(np.memmap(path, np.uint8, "r"))
        return read_content(reader, path)
    except OSError as error:
        raise from_os_error(error, path) from error
    except (ValueError, struct.error) as error:
        raise DataError(f"{path} is damaged: {error}", "copy it again from its source") from error


def read_content(reader: Reader, path: Path) -> FastTextFile:
    """Read the content of a file. Raises ValueError if it is damaged, DataError (3) for another version or kind."""
    magic, version = reader.values("2i")
    if magic != MAGIC or version not in VERSIONS:
        raise DataError(f"{path} is not a model of fastText of version 11 or 12", "copy it again from its source")
    dim, _, _, _, _, ngrams, loss, model, buckets, minn, maxn, _, _ = reader.values("12id")
    if model != SUPERVISED or loss not in LOSSES:
        raise DataError(f"{path} has word vectors of fastText, not a classifier", "train one with fasttext supervised")
    dictionary = read_dictionary(reader, buckets)
    is_quantized = reader.values("?")[0]
    inputs = read_quantized(reader) if is_quantized else read_matrix(reader)
    is_output_quantized = reader.values("?")[0] and is_quantized
    output = read_quantized(reader) if is_output_quantized else read_matrix(reader)
    if isinstance(output, QuantizedMatrix):
        output = output.rows(0, output.shape[0])
    labels = len(dictionary.kinds) - dictionary.words
    if not (1 <= ngrams <= MOST and 0 <= minn <= MOST and 0 <= maxn <= MOST):
        raise ValueError("its n-grams are too long")
    if inputs.shape[1] != dim or output.shape != (labels, dim) or not np.isfinite(output).all():
        raise ValueError("its matrices do not fit together")
    hashed = int(dictionary.pruned.max()) + 1 if len(dictionary.pruned) else buckets
    if inputs.shape[0] < dictionary.words + hashed:
        raise ValueError("its matrix has too few rows")
    return FastTextFile(LOSSES[loss], ngrams, buckets, minn, 0 if version == 11 else maxn, dictionary, inputs, output)


def read_dictionary(reader: Reader, buckets: int) -> Dictionary:
    """Read the words and labels."""
    size, words, labels = reader.values("3i")
    _, pruned_size = reader.values("2q")
    is_possible = min(size, words) >= 0 and labels > 0 and words + labels == size <= len(reader.data)
    if not is_possible or not 0 <= buckets <= MOST_BUCKETS:
        raise ValueError("its dictionary has impossible sizes")
    starts, ends = np.empty(size, np.int64), np.empty(size + 1, np.int64)
    counts, kinds = np.empty(size, np.int64), np.empty(size, np.uint8)
    data = reader.data[reader.at :]
    kernels.parse_entries(data, size, starts, ends, counts, kinds)
    if ends[size] < 0:
        raise ValueError("the file is too short")
    data = np.array(reader.take(int(ends[size])))
    pruned = np.zeros(0, np.int32)
    if pruned_size >= 0:
        pairs = reader.array("<i4", pruned_size, 2)
        pruned = np.full(max(1, buckets), -1, np.int32)
        if pruned_size and (pairs.min() < 0 or pairs[:, 0].max() >= buckets):
            raise ValueError("its list of buckets has impossible values")
        pruned[pairs[:, 0]] = pairs[:, 1]
    if not ((counts >= 0) & (counts < MOST_TEXTS)).all():
        raise ValueError("its words have impossible counts")
    if (kinds[:words] != kernels.WORD).any() or (kinds[words:] != kernels.LABEL).any():
        raise ValueError("its dictionary is not in order")
    return Dictionary(data, starts, ends[:size].copy(), counts, kinds, pruned, words)


def read_matrix(reader: Reader) -> Matrix:
    """Read a matrix of numbers."""
    rows, columns = reader.values("2q")
    if rows < 0 or columns < 1:
        raise ValueError("its matrix has an impossible shape")
    return reader.array("<f4", rows, columns)


def read_quantized(reader: Reader) -> QuantizedMatrix:
    """Read a matrix of product codes."""
    has_norms = reader.values("?")[0]
    rows, columns, size = reader.values("2qi")
    codes = reader.array(np.uint8, size)
    centroids = read_centroids(reader)
    if rows < 1 or size != rows * len(centroids):
        raise ValueError("its codes do not fit its matrix")
    norms = None
    if has_norms:
        norm_codes = reader.array(np.uint8, rows)
        norms = read_centroids(reader)[0][norm_codes, 0]
    return QuantizedMatrix(codes.reshape(rows, len(centroids)), centroids, norms, (rows, columns))


def read_centroids(reader: Reader) -> tuple[Matrix, ...]:
    """Read the centroids (256, size) of each part of a row."""
    dim, parts, size, last_size = reader.values("4i")
    if min(dim, parts, size, last_size) < 1 or (parts - 1) * size + last_size != dim:
        raise ValueError("its codes have impossible sizes")
    numbers = reader.array("<f4", dim * CENTROIDS)
    sizes = [size] * (parts - 1) + [last_size]
    starts = [number * size * CENTROIDS for number in range(parts)]
    return tuple(
        numbers[start : start + width * CENTROIDS].reshape(CENTROIDS, width)
        for start, width in zip(starts, sizes, strict=True)
    )
