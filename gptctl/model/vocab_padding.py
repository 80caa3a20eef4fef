"""The rows that pad the vocabulary: there in memory, where kernels like round sizes, and not on disk."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from gptctl.model.config import ModelConfig

PADDED_TENSORS = ("embedding.weight", "head.weight")  # (padded V, C) in memory, (V, C) on disk


def unpad_vocab(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Cut the vocabulary's padding rows off."""
    return tensor[: config.vocab_size] if name.removeprefix("gpt.") in PADDED_TENSORS else tensor


def pad_vocab(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Put the vocabulary's padding rows back, as zeros."""
    if name.removeprefix("gpt.") in PADDED_TENSORS:
        return F.pad(tensor, (0, 0, 0, config.padded_vocab_size - tensor.size(0)))
    return tensor
