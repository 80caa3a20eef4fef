"""Multi-head attention with an optional key-value cache ("Attention Is All You Need", 3.2.1 and 3.2.2).

Shapes: B batch, T new tokens, S cached slots, C width, H heads, K key heads, D width per head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.config import ModelConfig


class KVCache:
    """Keys and values of the tokens seen so far, in preallocated slots; every row has its own length.

    A token at position p sits in slot p. Rows of a ragged batch are padded on the right: what padding wrote lies beyond
    its row's length, where no query looks, and is overwritten by the next real token once `rewind` has set the lengths.
    """

    def __init__(self, config: ModelConfig, rows: int, slots: int, like: Tensor) -> None:
        shape = (config.layers, rows, config.key_heads, slots, config.head_width)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)
        self.rewind([0] * rows)

    def rewind(self, lengths: list[int]) -> None:
        """Say how many tokens of each row count."""
        self.lengths = lengths
        self.even = len(set(lengths)) == 1
        self.starts = torch.tensor(lengths, device=self.keys.device)  # (B,)

    def advance(self, count: int) -> None:
        """Count `count` more tokens in every row."""
        self.rewind([length + count for length in self.lengths])

    def select(self, rows: list[int]) -> None:
        """Keep only some rows, in this order."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.rewind([self.lengths[row] for row in rows])

    def positions(self, count: int) -> Tensor:
        """Give the positions of the next `count` tokens: (T,) where all rows agree, else (B, T)."""
        steps = torch.arange(count, device=self.keys.device)
        return steps + self.lengths[0] if self.even else self.starts[:, None] + steps

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D) and give all up to the longest row's end: (B, K, S, D)."""
        count = k.size(2)
        if self.even:
            start = self.lengths[0]
            self.keys[layer, :, :, start : start + count] = k
            self.values[layer, :, :, start : start + count] = v
        else:
            rows = torch.arange(k.size(0), device=k.device)[:, None]
            slots = self.positions(count)  # (B, T)
            self.keys[layer].transpose(1, 2)[rows, slots] = k.transpose(1, 2)
            self.values[layer].transpose(1, 2)[rows, slots] = v.transpose(1, 2)
        end = max(self.lengths) + count
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def mask(self, count: int) -> Tensor | None:
        """Tell which slots each new token sees, (B or 1, 1, T, S); None where it sees all of them."""
        if self.even and count == 1:
            return None
        slots = torch.arange(max(self.lengths) + count, device=self.keys.device)
        positions = self.positions(count)
        return (slots <= positions[..., None]).view(-1, 1, count, slots.numel())


def rotation(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """Give the cosines and sines of rotary positions, each (length, D/2) (Su et al. 2021, "RoFormer", 3.2.2)."""
    half = torch.arange(0, config.head_width, 2, dtype=torch.float64) / config.head_width
    angles = torch.arange(length, dtype=torch.float64)[:, None] * config.rope_base**-half
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair (i, i + D/2) of x (B, H, T, D) by its position's angle, given as (B or 1, 1, T, D/2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).type_as(x)


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d_k)) V over H heads, each token seeing itself and what stands before it (3.2.1, 3.2.3)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_width = config.head_width
        self.grouped = config.key_heads != config.heads
        self.dropout = config.attention_dropout
        keys = config.key_heads * config.head_width
        self.query = nn.Linear(config.width, config.width, bias=config.bias)
        self.key = nn.Linear(config.width, keys, bias=config.bias)
        self.value = nn.Linear(config.width, keys, bias=config.bias)
        self.output = nn.Linear(config.width, config.width, bias=config.bias)
        # Normalised queries and keys bound the logits (Henry et al. 2020, "Query-Key Normalization for Transformers").
        self.query_norm = nn.RMSNorm(config.head_width, config.norm_eps) if config.qk_norm else None
        self.key_norm = nn.RMSNorm(config.head_width, config.norm_eps) if config.qk_norm else None

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, cache: KVCache | None, mask: Tensor | None
    ) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        B, T, C = x.shape
        q = self.query(x).view(B, T, -1, self.head_width)  # (B, T, H, D)
        k = self.key(x).view(B, T, -1, self.head_width)  # (B, T, K, D)
        v = self.value(x).view(B, T, -1, self.head_width).transpose(1, 2)  # (B, K, T, D)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=cache is None,
            enable_gqa=self.grouped,
        )
        return self.output(y.transpose(1, 2).reshape(B, T, C))  # type: ignore[no-any-return]
