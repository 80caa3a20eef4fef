"""Attention that skips blocks: which blocks of 128 keys each block of 128 queries attends to (FlexAttention).

Dong et al. 2024, "Flex Attention: A Programming Model for Generating Optimized Attention Kernels". It needs compiled
blocks, and torch has its backward pass on CUDA alone. There it is used for documents and sliding windows: no tensor has
T * T entries, and the kernel reads only blocks of keys that some query attends to.

Shapes: B batch, T time, H heads, K key-value heads, D head dimension, R blocks of a sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK_SIZE = 128  # that of torch's kernels


def block_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: BlockMask, scale: float | None = None, softcap: float = 0.0
) -> Tensor:
    """Return softmax(scale q k^T) v under a mask, (B, H, T, D), for q (B, H, T, D) and k, v (B, K, T, D).

    A scale of None is 1/sqrt(D). A `softcap` that is not 0 bounds the logits by tanh.
    """

    def bounded(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    modify = bounded if softcap else None
    y: Tensor = flex_attention(
        q.type_as(v), k.type_as(v), v, score_mod=modify, block_mask=mask, scale=scale, enable_gqa=True
    )
    return y


def first_keys(shape: torch.Size, device: torch.device, window: int, document_starts: Tensor | None) -> Tensor:
    """Return the first key that each token of a batch of shape (B, T) attends to: (B, T), never decreasing in a row.

    It is the first token of the window, if there is a `window`, and not before the first token of the document.
    """
    first = torch.zeros(shape, dtype=torch.long, device=device) if document_starts is None else document_starts
    if not window:
        return first
    return torch.maximum(first, torch.arange(shape[1], device=device) - window + 1)


def causal_block_mask(first_key: Tensor) -> BlockMask:
    """Return the mask by which each query attends to the keys from first_key (B, T) to itself.

    As first_key never decreases, the first and the last query of a block say which blocks of keys are attended to, and
    which of them wholly. So the mask is made of (B, R, R) flags, without looking at pairs of tokens.
    """
    T, device = first_key.size(1), first_key.device
    column = torch.arange(-(-T // BLOCK_SIZE), device=device)
    row = column[:, None]
    last_query = (column * BLOCK_SIZE + BLOCK_SIZE - 1).clamp(max=T - 1)
    lowest, highest = first_key[:, ::BLOCK_SIZE, None], first_key[:, last_query, None]  # (B, R, 1)
    attended = (column <= row) & (column >= lowest // BLOCK_SIZE)  # (B, R, R)
    is_filled = (row + 1) * BLOCK_SIZE <= T
    whole = attended & is_filled & (column < row) & (column * BLOCK_SIZE >= highest)

    def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first_key[batch, query])

    return BlockMask.from_kv_blocks(
        *ordered(attended & ~whole), *ordered(whole), BLOCK_SIZE=BLOCK_SIZE, mask_mod=mask_mod, seq_lengths=(T, T)
    )


def ordered(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many flags (B, R, R) each row has, (B, 1, R) int32, and their columns first, (B, 1, R, R) int32."""
    columns = flags.int().argsort(dim=-1, descending=True, stable=True)
    return flags.sum(-1, dtype=torch.int32)[:, None], columns.int()[:, None]
