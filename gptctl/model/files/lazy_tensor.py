"""Tensors that are read or computed when they are needed, so that not all tensors of a model are in memory at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LazyTensor:
    """A tensor whose shape and type are known. `read` returns it, and may read it again at each call."""

    shape: torch.Size
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> LazyTensor:
        """Return a tensor that is in memory already."""
        return cls(tensor.shape, tensor.dtype, lambda: tensor)

    @property
    def nbytes(self) -> int:
        """Return the size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def map(self, function: Callable[[Tensor], Tensor], shape: torch.Size | None = None) -> LazyTensor:
        """Return a function of this tensor that keeps its type, and its shape unless `shape` is given."""
        return LazyTensor(self.shape if shape is None else shape, self.dtype, lambda: function(self.read()))


def read_all(tensors: Mapping[str, LazyTensor]) -> dict[str, Tensor]:
    """Read all tensors."""
    return {name: tensor.read() for name, tensor in tensors.items()}
