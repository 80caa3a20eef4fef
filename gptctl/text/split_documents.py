"""Documents divided into train, val and test: whole ones by hash, or the input cut at two of its characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text import splits
from gptctl.text.tokenization import token_rows


@dataclass(frozen=True)
class Pieces:
    """Documents or parts of them, in the order of the input.

    `split` holds indices into splits.NAMES. `closed` marks the pieces that end their document; None: all do.
    """

    ids: pa.Array
    texts: pa.Array
    split: NDArray[np.uint8]
    closed: NDArray[np.bool_] | None = None

    def of(self, name: str) -> pa.Array:
        """Return the texts of one split."""
        return self.texts.filter(token_rows.mask(self.split == splits.NAMES.index(name)))


def by_hash(table: pa.Table, column: str, val: float, test: float, salt: str) -> Pieces:
    """Divide documents by the hash of a column: "text", or "cluster_id" to keep near-duplicates together."""
    texts = whole(table["text"])
    keys: Any = token_rows.views(texts) if column == "text" else whole(table[column])
    return Pieces(whole(table["id"]), texts, splits.assign(keys, val, test, salt))


def by_position(table: pa.Table, first: int, cuts: tuple[int, int]) -> Pieces:
    """Divide at character positions of the whole input; `first` is that of this table's first character.

    The document at a boundary is cut there.
    """
    rows: list[tuple[str, str, int, bool]] = []
    for identity, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        borders = [min(max(cut - first, 0), len(text)) for cut in cuts]
        for split, (start, stop) in enumerate(zip([0, *borders], [*borders, len(text)], strict=True)):
            if stop > start or (not text and split == 0):
                rows.append((identity, text[start:stop], split, stop == len(text)))
        first += len(text)
    return Pieces(
        pa.array([row[0] for row in rows], pa.string()),
        pa.array([row[1] for row in rows], pa.large_string()),
        np.array([row[2] for row in rows], np.uint8),
        np.array([row[3] for row in rows], np.bool_),
    )


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Join the chunks of a column."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
