"""The rows that pad the vocabulary: models in memory have them, files do not."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from gptctl.model.config import ModelConfig

PADDED_TENSORS = ("embedding.weight", "head.weight")  # (padded V, C) in memory, (V, C) on disk


def unpad_vocab(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Remove the padding rows of the vocabulary, if the tensor `name` has them."""
    return tensor[: config.vocab_size] if name.removeprefix("gpt.") in PADDED_TENSORS else tensor


def pad_vocab(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Add the padding rows of the vocabulary, as zeros, if the tensor `name` has them."""
    if name.removeprefix("gpt.") in PADDED_TENSORS:
        return F.pad(tensor, (0, 0, 0, config.padded_vocab_size - tensor.size(0)))
    return tensor
