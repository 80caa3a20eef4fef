"""A batch: named tensors that a data source gives to an objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.model.cross_entropy import IGNORE_INDEX


@dataclass(frozen=True)
class Batch:
    """B samples of T tokens each, all int64. A sample that consists of several sequences has W of them: (B, W, T)."""

    input_ids: Tensor  # (B, T) or (B, W, T); IGNORE_INDEX is padding
    labels: Tensor  # of the same shape: the token to predict at each position, or IGNORE_INDEX
    document_starts: Tensor | None = None  # (B, T): where in its row each token's document begins
    sequence_lengths: Tensor | None = None  # (B, W): tokens of each sequence, 0 where a sample has fewer than W
    class_labels: Tensor | None = None  # (B,): the class of each sample

    @classmethod
    def from_windows(cls, windows: Tensor) -> Batch:
        """Return a batch whose inputs and labels are windows (B, T + 1) without the last and the first token."""
        return cls(windows[:, :-1], windows[:, 1:])

    def __len__(self) -> int:
        return self.input_ids.size(0)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device. Copies to CUDA are queued, from pinned memory: the host does not wait."""
        is_queued = device.type == "cuda" and self.input_ids.is_cpu
        batch = self.pin_memory() if is_queued else self
        return Batch(**{name: tensor.to(device, non_blocking=is_queued) for name, tensor in batch.tensors().items()})

    def pin_memory(self) -> Batch:
        """Return the batch in pinned main memory, from which a GPU reads by itself."""
        return Batch(**{name: tensor.contiguous().pin_memory() for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that the batch has, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def model_inputs(self) -> Tensor:
        """Return input_ids with padding replaced by token 0, as a model takes them."""
        return self.input_ids.clamp(min=0)

    def select(self, rows: Tensor) -> Batch:
        """Return the given samples, in the given order."""
        return Batch(**{name: tensor[rows] for name, tensor in self.tensors().items()})


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Join batches with the same fields; shorter ones are padded."""
    found = [batch.tensors() for batch in batches]
    return Batch(**{name: concatenate_field(name, [tensors[name] for tensors in found]) for name in found[0]})


def concatenate_field(name: str, tensors: Sequence[Tensor]) -> Tensor:
    """Join one field of some batches, padding all dimensions but the first to the largest size."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    fill = 0 if name == "sequence_lengths" else IGNORE_INDEX
    padded = []
    for tensor in tensors:
        missing = [size - have for size, have in zip(shape, tensor.shape[1:], strict=True)]
        padded.append(F.pad(tensor, [pad for size in reversed(missing) for pad in (0, size)], value=fill))
    joined = torch.cat(padded)
    if name == "document_starts":  # padding attends to itself alone
        positions = torch.arange(joined.size(1)).expand_as(joined)
        joined = torch.where(joined == IGNORE_INDEX, positions, joined)
    return joined
