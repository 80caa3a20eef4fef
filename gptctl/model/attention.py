"""Multi-head attention with an optional key-value cache ("Attention Is All You Need", 3.2.1 and 3.2.2).

Shapes: B batch, T new tokens, S cached slots, C hidden size, H heads, K key-value heads, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from gptctl.model.block_mask import block_attention
from gptctl.model.config import ModelConfig
from gptctl.model.kv_cache import KVCache
from gptctl.model.sliding_window import sliding_window_attention

EAGER_MAX_TOKENS = 512  # sequence length up to which eager attention is faster and needs little memory

RopeTables = tuple[Tensor, Tensor]  # cosines and sines
AttentionMask = Tensor | BlockMask | None


def rope_tables(config: ModelConfig, length: int) -> RopeTables:
    """Return the cosines and sines of rotary positions, each (length, D/2) (Su et al. 2021, "RoFormer", 3.2.2).

    They are computed in float32 as in transformers, whose models were trained with the rounding errors of that: at
    position 1,000,000 a cosine differs by up to 0.08 from the exact one.
    """
    frequencies = 1.0 / config.rope_theta ** (torch.arange(0, config.head_dim, 2).float() / config.head_dim)
    angles = torch.arange(length).float()[:, None] * frequencies
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate each pair (i, i + D/2) of x (B, H, T, D) by its position's angle, given as (B or 1, 1, T, D/2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).type_as(x)


def eager_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute equation 1 with a causal mask and keep its weights (B, H, T, T) for the backward pass.

    This is for training in bfloat16 on a CPU: 8 rows of 6 heads and 256 tokens take 18 ms forward and backward on two
    Zen 4 cores, and 31 ms with torch's fused kernel. As in that kernel, the softmax is in single precision.
    """
    T = q.shape[-2]
    causal_mask = torch.full((T, T), float("-inf"), device=q.device).triu(1)
    logits = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5 + causal_mask
    return torch.softmax(logits, -1).to(v.dtype) @ v


class Attention(nn.Module):
    """Causal multi-head attention over all earlier tokens, or over the last ones in a sliding layer.

        Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V                     3.2.1, equation 1
        head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)                         3.2.2
        MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O                  3.2.2

    query, key and value hold the W_i of all heads, stacked; output is W^O. Several heads may share a key-value head
    (Ainslie et al. 2023, "GQA").
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.window = config.layer_window(layer)
        self.head_dim = config.head_dim
        self.grouped = config.resolved_kv_heads != config.heads
        self.dropout = config.attention_dropout
        kv_size = config.resolved_kv_heads * config.head_dim
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.key = nn.Linear(config.hidden_size, kv_size, bias=config.bias)
        self.value = nn.Linear(config.hidden_size, kv_size, bias=config.bias)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        # Normalized queries and keys bound the logits (Henry et al. 2020, "Query-Key Normalization for Transformers").
        self.query_norm = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.key_norm = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        rope: RopeTables | None,
        cache: KVCache | None,
        mask: AttentionMask,
        document_starts: Tensor | None = None,
    ) -> Tensor:
        """Map (B, T, C) to (B, T, C).

        `mask` (B or 1, 1, T, S) is True where a token may attend, or a block mask; None means plain causal attention.
        A sliding layer without a mask makes its own from `document_starts` (B, T), the index of each document's first
        token.
        """
        B, T, _ = x.shape
        q = self.query(x).view(B, T, -1, self.head_dim)  # (B, T, H, D): Q W_i^Q for all i at once
        k = self.key(x).view(B, T, -1, self.head_dim)  # (B, T, K, D)
        v = self.value(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, K, T, D)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        is_prefill = cache is None or cache.is_empty  # there are no earlier tokens
        if cache is not None:
            cached = cache.update(self.layer, k, v, self.window)
            k, v = (k, v) if is_prefill else cached
        dropout = self.dropout if self.training else 0.0
        if isinstance(mask, BlockMask):
            y = block_attention(q, k, v, mask)
        elif is_prefill and self.window:
            y = sliding_window_attention(q, k, v, self.window, document_starts, dropout)
        elif self.uses_eager_attention(q, dropout) and is_prefill and mask is None:
            y = eager_attention(q, k, v)
        else:
            y = F.scaled_dot_product_attention(  # equation 1
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=is_prefill and mask is None,
                enable_gqa=self.grouped,
            )
        return self.output(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def uses_eager_attention(self, q: Tensor, dropout: float) -> bool:
        """Return whether eager attention is faster for these queries than the fused kernel."""
        fits = q.shape[-2] <= EAGER_MAX_TOKENS and not self.grouped and not dropout
        return fits and self.training and q.device.type == "cpu" and q.dtype == torch.bfloat16
