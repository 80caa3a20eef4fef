"""Normalization layers: LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019), each in two forms."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.config import ModelConfig


class RMSNormPlusOne(nn.RMSNorm):
    """An RMSNorm that multiplies by 1 + weight, so that a weight of zeros is the identity (Gemma)."""

    def reset_parameters(self) -> None:
        """Set the weight to zeros."""
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (..., size)."""
        return F.rms_norm(x, self.normalized_shape, 1 + self.weight, self.eps)


def make_norm(config: ModelConfig, size: int = 0) -> nn.Module:
    """Return the normalization layer of a model, over `size` entries or else over C."""
    size = size or config.hidden_size
    if config.norm == "rmsnorm_plus_one":
        return RMSNormPlusOne(size, config.norm_eps)
    if config.norm == "rmsnorm":
        return nn.RMSNorm(size, config.norm_eps)
    has_weight = config.norm == "layernorm"
    return nn.LayerNorm(size, config.norm_eps, elementwise_affine=has_weight, bias=config.has_bias("norm"))


def make_norm_of_heads(config: ModelConfig, size: int) -> nn.Module:
    """Return an RMSNorm for queries or keys: over each head, or over all of them, which are `size` entries."""
    size = config.resolved_head_dim if config.qk_norm_over == "head" else size
    kind = RMSNormPlusOne if config.norm == "rmsnorm_plus_one" else nn.RMSNorm
    return kind(size, config.norm_eps)


def norm_weight_start(config: ModelConfig) -> float:
    """Return the value of norm weights with which a norm only normalizes."""
    return 0.0 if config.norm == "rmsnorm_plus_one" else 1.0
