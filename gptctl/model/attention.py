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
from gptctl.model.norms import make_norm_of_heads
from gptctl.model.rope import RopeTables, apply_rope
from gptctl.model.sliding_window import causal_mask, sliding_window_attention

EAGER_MAX_TOKENS = 512  # sequence length up to which eager attention is faster and needs little memory

AttentionMask = Tensor | BlockMask | None


def eager_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Compute equation 1 with a causal mask and keep its weights (B, H, T, T) for the backward pass.

    This is for training in bfloat16 on a CPU: 8 rows of 6 heads and 256 tokens take 18 ms forward and backward on two
    Zen 4 cores, and 31 ms with torch's fused kernel. As in that kernel, the softmax is in single precision.
    """
    T = q.shape[-2]
    future = torch.full((T, T), float("-inf"), device=q.device).triu(1)
    logits = (q @ k.transpose(-1, -2)).float() * (scale or q.shape[-1] ** -0.5) + future
    return torch.softmax(logits, -1).to(v.dtype) @ v


def capped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, cap: float, dropout: float = 0.0
) -> Tensor:
    """Compute equation 1 with logits that tanh bounds to +-cap (Gemma Team 2024, "Gemma 2", 2).

    `mask` (B or 1, 1, T, S) is True where a token may attend, or is added to the logits; None means everywhere.
    """
    k, v = (x.repeat_interleave(q.size(1) // x.size(1), dim=1) for x in (k, v))
    logits = cap * torch.tanh((q @ k.transpose(-1, -2)).float() * (scale or q.shape[-1] ** -0.5) / cap)
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    return F.dropout(torch.softmax(logits, -1), dropout).to(v.dtype) @ v


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
        self.head_dim = config.resolved_head_dim
        self.grouped = config.resolved_kv_heads != config.heads
        self.dropout = config.attention_dropout
        self.scale = config.attention_multiplier or None  # None is 1/sqrt(d_k)
        self.softcap, self.clip = config.attention_softcap, config.clip_qkv
        kv_size = config.resolved_kv_heads * self.head_dim
        self.query = nn.Linear(config.hidden_size, config.query_size, bias=config.has_bias("qkv"))
        self.key = nn.Linear(config.hidden_size, kv_size, bias=config.has_bias("qkv"))
        self.value = nn.Linear(config.hidden_size, kv_size, bias=config.has_bias("qkv"))
        self.output = nn.Linear(config.query_size, config.hidden_size, bias=config.has_bias("attention_output"))
        # Normalized queries and keys bound the logits (Henry et al. 2020, "Query-Key Normalization for Transformers").
        self.norm_over_width = config.qk_norm_over == "width"
        self.query_norm = make_norm_of_heads(config, config.query_size) if config.qk_norm else None
        self.key_norm = make_norm_of_heads(config, kv_size) if config.qk_norm else None

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
        q, k, v = self.query(x), self.key(x), self.value(x)  # Q W_i^Q for all i at once
        if self.clip:
            q, k, v = q.clamp(-self.clip, self.clip), k.clamp(-self.clip, self.clip), v.clamp(-self.clip, self.clip)
        q, k, v = q.view(B, T, -1, self.head_dim), k.view(B, T, -1, self.head_dim), v.view(B, T, -1, self.head_dim)
        if self.query_norm is not None and self.key_norm is not None:
            if self.norm_over_width:
                q, k = self.query_norm(q.flatten(2)).view_as(q), self.key_norm(k.flatten(2)).view_as(k)
            else:
                q, k = self.query_norm(q), self.key_norm(k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or K, T, D)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        is_prefill = cache is None or cache.is_empty  # there are no earlier tokens
        if cache is not None:
            cached = cache.update(self.layer, k, v, self.window)
            k, v = (k, v) if is_prefill else cached
        dropout = self.dropout if self.training else 0.0
        if isinstance(mask, BlockMask):
            y = block_attention(q, k, v, mask, self.scale, self.softcap)
        elif self.softcap:
            if is_prefill:
                mask = causal_mask(T, q.device, self.window, document_starts)
            y = capped_attention(q, k, v, mask, self.scale, self.softcap, dropout)
        elif is_prefill and self.window:
            y = sliding_window_attention(q, k, v, self.window, document_starts, dropout, self.scale)
        elif self.uses_eager_attention(q, dropout) and is_prefill and mask is None:
            y = eager_attention(q, k, v, self.scale)
        else:
            y = F.scaled_dot_product_attention(  # equation 1
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=is_prefill and mask is None,
                scale=self.scale,
                enable_gqa=self.grouped,
            )
        return self.output(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def uses_eager_attention(self, q: Tensor, dropout: float) -> bool:
        """Return whether eager attention is faster for these queries than the fused kernel."""
        fits = q.shape[-2] <= EAGER_MAX_TOKENS and not self.grouped and not dropout
        return fits and self.training and q.device.type == "cpu" and q.dtype == torch.bfloat16
