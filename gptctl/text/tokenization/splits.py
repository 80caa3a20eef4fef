"""Divide documents into train, val and test: whole documents by a hash, or cut the input at two character positions.

A hash depends on the key of a document alone, so adding documents never moves others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.errors import UsageError
from gptctl.core.seeds import unit_hash
from gptctl.text import arrow_arrays

NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Pieces:
    """Documents or parts of documents, in the order of the input.

    `split` holds indices into NAMES. `ends_document` marks the pieces that end their document; None means all.
    """

    ids: pa.Array
    texts: pa.Array
    split: NDArray[np.uint8]
    ends_document: NDArray[np.bool_] | None = None

    def texts_of(self, name: str) -> pa.Array:
        """Return the texts of one split."""
        return self.texts.filter(arrow_arrays.mask(self.split == NAMES.index(name)))


@dataclass(frozen=True)
class SplitRule:
    """How documents are divided. `val` and `test` are shares.

    `by` is "cluster" or "text" for a hash of the column `cluster_id` or of the text, and "position" to cut the input at
    the characters `cuts`, where val and test begin.
    """

    by: Literal["cluster", "text", "position"]
    val: float
    test: float
    salt: str
    cuts: tuple[int, int] = (0, 0)

    def divide(self, table: pa.Table, first_character: int, given: str = "") -> Pieces:
        """Divide the documents of a table; `first_character` is the position of its first one in the input.

        Documents whose split is `given` stay in it.
        """
        if given:
            texts, split = arrow_arrays.combine(table["text"]), np.full(len(table), NAMES.index(given), np.uint8)
            return Pieces(arrow_arrays.combine(table["id"]), texts, split)
        if self.by == "position":
            return divide_by_position(table, first_character, self.cuts)
        column = "cluster_id" if self.by == "cluster" and "cluster_id" in table.column_names else "text"
        texts = arrow_arrays.combine(table["text"])
        keys: Any = arrow_arrays.string_views(texts) if column == "text" else arrow_arrays.combine(table[column])
        return Pieces(arrow_arrays.combine(table["id"]), texts, assign(keys, self.val, self.test, self.salt))


def assign(keys: Sequence[bytes] | pa.Array, val: float, test: float, salt: str) -> NDArray[np.uint8]:
    """Return the split of each document as an index into NAMES. Documents with equal keys are in the same split.

    `keys` are bytes, or an Arrow array of strings, binary values or integers, which are hashed as 8 bytes in
    little-endian order. They have no nulls. Raises UsageError (2) for shares that add up to more than 1.
    """
    if val < 0 or test < 0 or val + test > 1:
        raise UsageError(
            f"splits of val={val} and test={test} do not leave a share for train", "their sum must be at most 1"
        )
    positions = np.fromiter((unit_hash(salt, key) for key in _to_bytes(keys)), np.float64, len(keys))
    return np.where(positions < test, 2, np.where(positions < val + test, 1, 0)).astype(np.uint8)


def _to_bytes(keys: Sequence[bytes] | pa.Array) -> Iterable[bytes]:
    if not isinstance(keys, pa.Array):
        return keys
    if pa.types.is_integer(keys.type):
        return (number.to_bytes(8, "little", signed=True) for number in keys.to_pylist())
    is_large = pa.types.is_large_string(keys.type) or pa.types.is_large_binary(keys.type)
    values: list[bytes] = keys.cast(pa.large_binary() if is_large else pa.binary()).to_pylist()
    return values


def divide_by_position(table: pa.Table, first_character: int, cuts: tuple[int, int]) -> Pieces:
    """Divide the documents of a table at character positions of the whole input; a document at a cut becomes two."""
    rows: list[tuple[str, str, int, bool]] = []
    for document, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        bounds = [min(max(cut - first_character, 0), len(text)) for cut in cuts]
        for split, (start, stop) in enumerate(zip([0, *bounds], [*bounds, len(text)], strict=True)):
            if stop > start or (not text and split == 0):
                rows.append((document, text[start:stop], split, stop == len(text)))
        first_character += len(text)
    return Pieces(
        pa.array([row[0] for row in rows], pa.string()),
        pa.array([row[1] for row in rows], pa.large_string()),
        np.array([row[2] for row in rows], np.uint8),
        np.array([row[3] for row in rows], np.bool_),
    )
