"""Attention to a band: each token looks at the last W tokens, itself included (Child et al. 2019, "Generating Long
Sequences with Sparse Transformers"; every other layer of GPT-3, 2.1).

The sequence is cut into chunks of W. A token's band reaches into its own chunk and the one before it, no further, so T
tokens cost O(T * W) where a mask over all of them would cost O(T * T). The same works on every device.

Shapes: B batch, T time, H heads, K key heads, D width per head, W band width, N chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def banded_attention(q: Tensor, k: Tensor, v: Tensor, band: int, starts: Tensor | None, dropout: float) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v over each token's band, (B, H, T, D), for q (B, H, T, D), k and v (B, K, T, D).

    `starts` (B, T), where given, is the place at which each token's document begins; no token looks before that.
    """
    B, H, T, D = q.shape
    grouped = k.size(1) != H
    first = F.scaled_dot_product_attention(
        q[:, :, :band],
        k[:, :, :band],
        v[:, :, :band],
        attn_mask=None if starts is None else document_mask(starts[:, :band]),
        dropout_p=dropout,
        is_causal=starts is None,
        enable_gqa=grouped,
    )
    if band >= T:
        return first
    q, k, v = (chunks(x, band) for x in (q, k, v))  # (B, N, H or K, W, D)
    rest = F.scaled_dot_product_attention(
        q[:, 1:].flatten(0, 1),  # (B * (N - 1), H, W, D)
        pairs(k),
        pairs(v),
        attn_mask=band_mask(band, q.device) if starts is None else document_band_mask(starts, band),
        dropout_p=dropout,
        enable_gqa=grouped,
    )
    rest = rest.view(B, -1, H, band, D).transpose(1, 2).flatten(2, 3)  # (B, H, (N - 1) * W, D)
    return torch.cat((first, rest), dim=2)[:, :, :T]


def chunks(x: Tensor, band: int) -> Tensor:
    """Cut (B, H, T, D) into (B, N, H, W, D); zeros fill the last chunk up, where no real token looks."""
    B, H, T, D = x.shape
    return F.pad(x, (0, 0, 0, -T % band)).view(B, H, -1, band, D).transpose(1, 2)


def pairs(x: Tensor) -> Tensor:
    """Join each chunk of (B, N, K, W, D) but the first to the one before it: (B * (N - 1), K, 2 W, D)."""
    return torch.cat((x[:, :-1], x[:, 1:]), dim=3).flatten(0, 1)


def band_mask(band: int, device: torch.device) -> Tensor:
    """Tell which of the 2 W keys of a pair of chunks each of the second one's W tokens sees: (W, 2 W)."""
    query = torch.arange(band, device=device)[:, None] + band
    key = torch.arange(2 * band, device=device)
    return (key <= query) & (key > query - band)


def document_band_mask(starts: Tensor, band: int) -> Tensor:
    """Narrow the band to each token's document: (B * (N - 1), 1, W, 2 W) from starts (B, T)."""
    B, T = starts.shape
    start = F.pad(starts, (0, -T % band)).view(B, -1, band)[:, 1:]  # (B, N - 1, W)
    pair = torch.arange(start.size(1), device=starts.device)[:, None] * band  # where each pair's keys begin
    key = pair + torch.arange(2 * band, device=starts.device)  # (N - 1, 2 W)
    seen: Tensor = band_mask(band, starts.device) & (key[:, None] >= start[..., None])  # (B, N - 1, W, 2 W)
    return seen.flatten(0, 1)[:, None]


def document_mask(starts: Tensor) -> Tensor:
    """Tell which tokens each token of its document sees, (B, 1, T, T), from starts (B, T)."""
    place = torch.arange(starts.size(1), device=starts.device)
    seen: Tensor = (place <= place[:, None]) & (place >= starts[..., None])
    return seen[:, None]
