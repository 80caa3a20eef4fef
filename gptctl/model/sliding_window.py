"""Sliding-window attention: each token attends to the last W tokens, itself included.

Child et al. 2019, "Generating Long Sequences with Sparse Transformers"; every other layer of GPT-3 (2.1).

The sequence is split into chunks of W tokens. The window of a token lies in its own chunk and the one before it, so T
tokens cost O(T * W), where a mask over all of them would cost O(T * T). The same code runs on every device.

Shapes: B batch, T time, H heads, K key-value heads, D head dimension, W window, N chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sliding_window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    document_starts: Tensor | None,
    dropout: float,
    scale: float | None = None,
) -> Tensor:
    """Return softmax(scale q k^T) v over each token's window, (B, H, T, D), for q (B, H, T, D), k, v (B, K, T, D).

    A scale of None is 1/sqrt(D).

    `document_starts` (B, T), if given, is the index of the first token of each token's document. No token attends to
    an earlier one.
    """
    B, H, T, D = q.shape
    grouped = k.size(1) != H
    first = F.scaled_dot_product_attention(
        q[:, :, :window],
        k[:, :, :window],
        v[:, :, :window],
        attn_mask=None if document_starts is None else document_mask(document_starts[:, :window]),
        dropout_p=dropout,
        is_causal=document_starts is None,
        scale=scale,
        enable_gqa=grouped,
    )
    if window >= T:
        return first
    q, k, v = (split_chunks(x, window) for x in (q, k, v))  # (B, N, H or K, W, D)
    rest = F.scaled_dot_product_attention(
        q[:, 1:].flatten(0, 1),  # (B * (N - 1), H, W, D)
        join_neighbors(k),
        join_neighbors(v),
        attn_mask=window_mask(window, q.device)
        if document_starts is None
        else document_window_mask(document_starts, window),
        dropout_p=dropout,
        scale=scale,
        enable_gqa=grouped,
    )
    rest = rest.view(B, -1, H, window, D).transpose(1, 2).flatten(2, 3)  # (B, H, (N - 1) * W, D)
    return torch.cat((first, rest), dim=2)[:, :, :T]


def split_chunks(x: Tensor, window: int) -> Tensor:
    """Split (B, H, T, D) into (B, N, H, W, D). Zeros pad the last chunk; no real token attends to them."""
    B, H, T, D = x.shape
    return F.pad(x, (0, 0, 0, -T % window)).view(B, H, -1, window, D).transpose(1, 2)


def join_neighbors(x: Tensor) -> Tensor:
    """Join each chunk of (B, N, K, W, D) but the first to the one before it: (B * (N - 1), K, 2 W, D)."""
    return torch.cat((x[:, :-1], x[:, 1:]), dim=3).flatten(0, 1)


def window_mask(window: int, device: torch.device) -> Tensor:
    """Return which of the 2 W keys of two chunks each of the W tokens of the second attends to: (W, 2 W)."""
    query = torch.arange(window, device=device)[:, None] + window
    key = torch.arange(2 * window, device=device)
    return (key <= query) & (key > query - window)


def document_window_mask(document_starts: Tensor, window: int) -> Tensor:
    """Restrict the window mask to each token's document: (B * (N - 1), 1, W, 2 W) from document_starts (B, T)."""
    B, T = document_starts.shape
    start = F.pad(document_starts, (0, -T % window)).view(B, -1, window)[:, 1:]  # (B, N - 1, W)
    first_key = torch.arange(start.size(1), device=start.device)[:, None] * window  # of each pair of chunks
    key = first_key + torch.arange(2 * window, device=start.device)  # (N - 1, 2 W)
    attended: Tensor = window_mask(window, start.device) & (key[:, None] >= start[..., None])  # (B, N - 1, W, 2 W)
    return attended.flatten(0, 1)[:, None]


def document_mask(document_starts: Tensor) -> Tensor:
    """Return which tokens of its document each token attends to, (B, 1, T, T), from document_starts (B, T)."""
    index = torch.arange(document_starts.size(1), device=document_starts.device)
    attended: Tensor = (index <= index[:, None]) & (index >= document_starts[..., None])
    return attended[:, None]


def causal_mask(length: int, device: torch.device, window: int, document_starts: Tensor | None) -> Tensor:
    """Return which tokens each token attends to, (B or 1, 1, T, T): the last ones if `window` is not 0.

    `document_starts` (B, T) is that of `sliding_window_attention`.
    """
    index = torch.arange(length, device=device)
    attended = (index <= index[:, None])[None]
    if window:
        attended = attended & (index > index[:, None] - window)
    if document_starts is not None:
        attended = attended & (index >= document_starts[..., None])
    return attended[:, None]
