"""Tensors that are read or computed when they are needed, so that not all tensors of a model are in memory at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LazyTensor:
    """A tensor whose shape and type are known. `read` returns it, and may read it again at each call."""

    shape: torch.Size
    dtype: torch.dtype
    read: Callable[[], Tensor]
    parts: Sequence[LazyTensor] = ()  # that it stacks along a new first dimension, to be read alone

    @classmethod
    def of(cls, tensor: Tensor) -> LazyTensor:
        """Return a tensor that is in memory already."""
        return cls(tensor.shape, tensor.dtype, lambda: tensor)

    @classmethod
    def stack(cls, parts: Sequence[LazyTensor]) -> LazyTensor:
        """Return tensors of the same shape and type as one, with a new first dimension."""
        shape, dtype = torch.Size((len(parts), *parts[0].shape)), parts[0].dtype

        def read() -> Tensor:
            whole = torch.empty(shape, dtype=dtype)
            for number, part in enumerate(parts):
                whole[number] = part.read()
            return whole

        return cls(shape, dtype, read, parts)

    @property
    def nbytes(self) -> int:
        """Return the size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def part(self, number: int) -> LazyTensor:
        """Return one entry of the first dimension."""
        return self.parts[number] if self.parts else self.map(lambda whole: whole[number], self.shape[1:])

    def converted(self, dtype: torch.dtype) -> LazyTensor:
        """Return this tensor in another type."""
        return LazyTensor(
            self.shape, dtype, lambda: self.read().to(dtype), [part.converted(dtype) for part in self.parts]
        )

    def map(self, function: Callable[[Tensor], Tensor], shape: torch.Size | None = None) -> LazyTensor:
        """Return a function of this tensor that keeps its type, and its shape unless `shape` is given."""
        return LazyTensor(self.shape if shape is None else shape, self.dtype, lambda: function(self.read()))


def read_all(tensors: Mapping[str, LazyTensor]) -> dict[str, Tensor]:
    """Read all tensors."""
    return {name: tensor.read() for name, tensor in tensors.items()}


def lazily(tensors: Mapping[str, Tensor]) -> dict[str, LazyTensor]:
    """Return tensors that are in memory already, without their gradients."""
    return {name: LazyTensor.of(tensor.detach()) for name, tensor in tensors.items()}
