"""The rows that pad the vocabulary: models in memory have them, files do not."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.model.config import ModelConfig
from gptctl.model.files.lazy_tensor import LazyTensor

PADDED_TENSORS = ("embedding.weight", "head.weight")  # (padded V, C) in memory, (V, C) on disk


def unpad_vocab(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Remove the padding rows of the vocabulary, if the tensor `name` has them."""
    return tensor[: config.vocab_size] if name.removeprefix("gpt.") in PADDED_TENSORS else tensor


def unpad_lazily(name: str, tensor: LazyTensor, config: ModelConfig) -> LazyTensor:
    """Remove the padding rows of the vocabulary, if the tensor `name` has them."""
    shape = unpadded_shape(name, tensor.shape, config)
    return tensor if shape == tensor.shape else tensor.map(lambda whole: whole[: shape[0]], shape)


def unpadded_shape(name: str, shape: torch.Size, config: ModelConfig) -> torch.Size:
    """Return the shape of the tensor `name` without the padding rows of the vocabulary."""
    is_padded = name.removeprefix("gpt.") in PADDED_TENSORS
    return torch.Size((min(shape[0], config.vocab_size), *shape[1:])) if is_padded else shape


def pad_vocab(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Add the padding rows of the vocabulary, as zeros, if the tensor `name` has them."""
    if name.removeprefix("gpt.") in PADDED_TENSORS:
        return F.pad(tensor, (0, 0, 0, config.padded_vocab_size - tensor.size(0)))
    return tensor
