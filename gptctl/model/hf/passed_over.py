"""Tensors of older files that are no parameters: masks, and frequencies of rotary positions.

They are not imported. But each must be what gptctl computes in its place; otherwise the model is another one.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from gptctl.model.config import ModelConfig
from gptctl.model.files.lazy_tensor import LazyTensor
from gptctl.model.rope import plain_frequencies, scaled_frequencies

FREQUENCIES = ".inv_freq"
MASKS = (".attn.bias", ".attention.bias")
MASKED = ".masked_bias"  # what is added to the logits of hidden tokens
NOT_PARAMETERS = (FREQUENCIES, *MASKS, MASKED)
LARGEST_MASKED = -9000.0  # -1e4 in half precision, with room for rounding


def passed_over_reason(name: str, tensor: LazyTensor, config: ModelConfig) -> str:
    """Return why a stored tensor that is no parameter is not what gptctl computes; empty if it is."""
    number = re.search(r"\.(\d+)\.", name)
    layer = int(number[1]) if number else None
    stored = tensor.read()
    if name.endswith(FREQUENCIES):
        known = any(equal_frequencies(stored, wanted) for wanted in rope_frequencies(config, layer))
        return "" if known else f"{name} is not what rope_theta and rope_scaling say"
    if name.endswith(MASKED):
        known = stored.numel() == 1 and stored.item() <= LARGEST_MASKED
        return "" if known else f"{name} does not hide tokens"
    window = config.layer_window(layer) if layer is not None else 0
    return "" if is_causal_mask(stored, window) else f"{name} is no mask of all later tokens"


def rope_frequencies(config: ModelConfig, layer: int | None) -> list[Tensor]:
    """Return the frequencies that a file may hold for a layer: before scaling, and after it."""
    if config.positions != "rope":
        return []
    if layer is not None and config.rope_name(layer) == "sliding_rope":
        return [plain_frequencies(config.sliding_rope_theta, config.rotary_dim)]
    scaled = [scaled_frequencies(config, long)[0] for long in (False, True)]
    return [plain_frequencies(config.rope_theta, config.rotary_dim), *scaled]


def equal_frequencies(stored: Tensor, wanted: Tensor) -> bool:
    """Return whether stored frequencies are the wanted ones, but for the rounding of their type."""
    if stored.shape != wanted.shape or not stored.is_floating_point():
        return False
    limits = torch.finfo(stored.dtype)
    rounded = wanted.to(stored.dtype).float()
    return torch.allclose(stored.float(), rounded, rtol=4 * limits.eps, atol=2 * limits.smallest_normal * limits.eps)


def is_causal_mask(stored: Tensor, window: int) -> bool:
    """Return whether a mask (..., T, T) shows the last `window` tokens, the current one included; 0 is all."""
    if stored.ndim < 2 or stored.shape[-1] != stored.shape[-2] or stored.numel() != stored.shape[-1] ** 2:
        return False
    shown = stored.view(stored.shape[-2:]) != 0
    wanted = torch.ones_like(shown).tril()
    if window:
        wanted = wanted.triu(1 - window)
    return torch.equal(shown, wanted)
