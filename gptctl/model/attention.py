"""Multi-head attention with an optional key-value cache ("Attention Is All You Need", 3.2.1 and 3.2.2).

Shapes: B batch, T new tokens, S cached slots, C width, H heads, K key heads, D width per head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.config import ModelConfig
from gptctl.model.sliding_window import banded_attention


class KVCache:
    """Keys and values of the tokens seen so far, in preallocated slots; every row has its own length.

    A token at position p sits in slot p. Rows of a ragged batch are padded on the right: what padding wrote lies beyond
    its row's length, where no query looks, and is overwritten by the next real token once `rewind` has set the lengths.
    """

    def __init__(self, config: ModelConfig, rows: int, slots: int, like: Tensor) -> None:
        shape = (config.layers, rows, config.resolved_kv_heads, slots, config.head_dim)
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

    @property
    def empty(self) -> bool:
        """Return whether nothing has been stored, so that new tokens see each other and nothing else."""
        return not any(self.lengths)

    def positions(self, count: int) -> Tensor:
        """Return the positions of the next `count` tokens: (T,) where all rows agree, else (B, T)."""
        steps = torch.arange(count, device=self.keys.device)
        return steps + self.lengths[0] if self.even else self.starts[:, None] + steps

    def append(self, layer: int, k: Tensor, v: Tensor, band: int = 0) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D) and give those that any new token may see: (B, K, S, D).

        They end with the longest row; with a `band` they begin where the shortest row's next token looks first.
        """
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
        first, end = self.reach(count, band)
        return self.keys[layer, :, :, first:end], self.values[layer, :, :, first:end]

    def mask(self, count: int, band: int = 0) -> Tensor | None:
        """Tell which of the slots that `append` gives each new token sees, (B or 1, 1, T, S); None if it sees all."""
        if self.even and count == 1:
            return None
        slots = torch.arange(*self.reach(count, band), device=self.keys.device)
        positions = self.positions(count)[..., None]
        seen = slots <= positions
        if band:
            seen = seen & (slots > positions - band)
        return seen.view(-1, 1, count, slots.numel())

    def reach(self, count: int, band: int) -> tuple[int, int]:
        """Return the first slot that any of the next `count` tokens sees, and the one after the last."""
        return max(0, min(self.lengths) - band + 1) if band else 0, max(self.lengths) + count


def rotation(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of rotary positions, each (length, D/2) (Su et al. 2021, "RoFormer", 3.2.2)."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    angles = torch.arange(length, dtype=torch.float64)[:, None] * config.rope_theta**-half
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair (i, i + D/2) of x (B, H, T, D) by its position's angle, given as (B or 1, 1, T, D/2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).type_as(x)


WRITTEN_OUT = 512  # tokens of context up to which it pays, and costs little memory


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Equation 1 with a causal mask, its weights (B, H, T, T) kept for the backward pass.

    For training in bfloat16 on a CPU: 8 rows of 6 heads and 256 places take 18 ms forth and back on two Zen 4
    cores, 31 ms with torch's fused kernel. The softmax is in single precision, as there.
    """
    T = q.shape[-2]
    ahead = torch.full((T, T), float("-inf"), device=q.device).triu(1)
    logits = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5 + ahead
    return torch.softmax(logits, -1).to(v.dtype) @ v


class Attention(nn.Module):
    """Multi-head attention, each token seeing itself and what stands before it, or the last of it.

        Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V                     3.2.1, equation 1
        head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)                         3.2.2
        MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O                  3.2.2

    query, key and value hold all heads' W_i one below the other; output is W^O. A key head may serve several heads
    (Ainslie et al. 2023, "GQA").
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.band = config.layer_window(layer)
        self.head_dim = config.head_dim
        self.grouped = config.resolved_kv_heads != config.heads
        self.dropout = config.attention_dropout
        keys = config.resolved_kv_heads * config.head_dim
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.key = nn.Linear(config.hidden_size, keys, bias=config.bias)
        self.value = nn.Linear(config.hidden_size, keys, bias=config.bias)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        # Normalised queries and keys bound the logits (Henry et al. 2020, "Query-Key Normalization for Transformers").
        self.query_norm = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.key_norm = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        cache: KVCache | None,
        mask: Tensor | None,
        starts: Tensor | None = None,
    ) -> Tensor:
        """Map (B, T, C) to (B, T, C).

        `mask` (B or 1, 1, T, S) tells what each token sees, None: all that stands before. A banded layer without a
        cache makes its own, from `starts` (B, T), the place where each token's document begins.
        """
        B, T, _ = x.shape
        q = self.query(x).view(B, T, -1, self.head_dim)  # (B, T, H, D): Q W_i^Q for all i at once
        k = self.key(x).view(B, T, -1, self.head_dim)  # (B, T, K, D)
        v = self.value(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, K, T, D)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        alone = cache is None or cache.empty  # nothing stands before these tokens
        if cache is not None:
            stored = cache.append(self.layer, k, v, self.band)
            k, v = (k, v) if alone else stored
        dropout = self.dropout if self.training else 0.0
        if alone and self.band:
            y = banded_attention(q, k, v, self.band, starts, dropout)
        elif self.written_out(q, dropout) and alone and mask is None:
            y = written_out(q, k, v)
        else:
            y = F.scaled_dot_product_attention(  # equation 1
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=alone and mask is None,
                enable_gqa=self.grouped,
            )
        return self.output(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def written_out(self, q: Tensor, dropout: float) -> bool:
        """Return whether these queries are attended to faster without the fused kernel."""
        fits = q.shape[-2] <= WRITTEN_OUT and not self.grouped and not dropout
        return fits and self.training and q.device.type == "cpu" and q.dtype == torch.bfloat16
