"""The part of a full tensor that a rank holds, and how values of the full tensor get into it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**20  # of a full tensor that are in memory at once while it is filled
BLOCK = 16  # torch draws normal numbers in blocks of this many elements


@dataclass(frozen=True)
class TensorPart:
    """A box of a full tensor: `values` holds its elements at `place`, one slice for each dimension."""

    values: Tensor
    shape: torch.Size
    place: tuple[slice, ...]

    @classmethod
    def whole(cls, tensor: Tensor) -> TensorPart:
        """Return a tensor as the part that is all of it."""
        return cls(tensor, tensor.shape, tuple(slice(0, size) for size in tensor.shape))

    def copy_rows(self, first: int, rows: Tensor) -> None:
        """Copy what belongs to this part from the rows `first`, `first` + 1 and so on of the full tensor."""
        own = self.place[0]
        start, stop = max(first, own.start), min(first + rows.size(0), own.stop)
        if start < stop:
            found = rows[(slice(start - first, stop - first), *self.place[1:])]
            self.values[start - own.start : stop - own.start].copy_(found)

    def fill(self, tensor: Tensor) -> None:
        """Copy what belongs to this part from a full tensor. Rows that the tensor does not have become zero."""
        self.values[max(0, tensor.size(0) - self.place[0].start) :] = 0
        self.copy_rows(0, tensor)


def row_chunks(shape: torch.Size) -> Iterator[slice]:
    """Yield the rows of a tensor in chunks.

    Drawing uniform or normal numbers chunk by chunk gives the same numbers as drawing them at once: all chunks but the
    last have a multiple of BLOCK elements, and the last has at least as many.
    """
    rows, per_row = shape[0], max(1, math.prod(shape[1:]))
    least = BLOCK // math.gcd(BLOCK, per_row)
    step = max(least, CHUNK_ELEMENTS // per_row // least * least)
    start = 0
    while start < rows:
        stop = start + step if start + step + least <= rows else rows
        yield slice(start, stop)
        start = stop
