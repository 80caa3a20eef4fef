"""The cross-entropy of next-token prediction, plain, and fused with the output head so that all logits never exist.

For GPT-2's vocabulary the logits are the largest tensor: (4 * 1024, 50304) in float32 takes 786 MiB, and the plain way
holds more than one of that size. The fused way computes the gradient of a chunk of rows in the forward pass, while its
logits exist, so that nothing is computed twice: the loss is a sum, and the gradient that reaches it is one number. The
peak memory of head and loss there, gradients included, fell from 2220 to 174 MiB (bfloat16: 2299 to 302), and at
(4 * 256, 50304) from 457 to 170 MiB (530 to 361), at the same speed.

Shapes: N rows (tokens), C hidden size, V vocabulary. The head has padding rows after the first `vocab_size`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

if TYPE_CHECKING:  # torch.distributed takes long to import
    from gptctl.model.vocab_parallel import VocabShard

IGNORE_INDEX = -1  # a target that does not count
CHUNK_ROWS = 256  # enough to keep a matrix product busy; 128 rows are no faster (GPT-2's vocabulary, Zen 4)
CUDA_CHUNK_ROWS = 4096  # a GPU needs large products, and few kernels: 91 for 16,384 rows where 256 rows take 2,947
# Columns of the vocabulary, on the CPU: there adding a bfloat16 product while it is in the cache is twice as fast.
CHUNK_COLUMNS = 4096
# Fewer logits stay in the caches of the processor, and the plain way is a quarter faster.
MIN_FUSED_LOGITS = 2**21

ChunkLoss = Callable[[Tensor, Tensor, int, float, float, bool], tuple[Tensor, Tensor]]


def cross_entropy_sum(
    logits: Tensor,
    targets: Tensor,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy in nats, and how many targets count.

    logits (..., V), targets (...) int64. Training divides the sum over all micro-batches and ranks once by the count
    over the same, so that neither padding nor the number of ranks changes a gradient. `label_smoothing` is that of
    Vaswani et al. 2017, 5.4. `weights` (V,) weight each target in the sum, but not in the count.
    """
    flat = targets.flatten()
    total = F.cross_entropy(
        logits.flatten(0, -2).float(),
        flat,
        weights,
        ignore_index=ignore_index,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return total, (flat != ignore_index).sum()


def fused_cross_entropy_sum(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    vocab_size: int,
    softcap: float,
    label_smoothing: float,
    compiled: bool = False,
    weights: Tensor | None = None,
    shard: VocabShard | None = None,
) -> Tensor:
    """Return the cross-entropy in nats, summed over rows, of hidden (N, C), the head's weight (V, C) and targets (N,).

    Rows whose target is IGNORE_INDEX do not count, and the others with their `weights` (N,). Matrix products are in
    autocast's dtype, all else is in float32. `softcap` is that of GPT.logits, `label_smoothing` that of
    cross_entropy_sum. With `compiled`, torch.compile fuses what happens between the matrix products. With a `shard`,
    `weight` has the rows of that shard, and every rank returns the whole sum.
    """
    options = vocab_size, softcap, label_smoothing, torch.is_grad_enabled(), compiled, weights, shard
    return FusedCrossEntropy.apply(hidden, weight, targets, *options)  # type: ignore[no-any-return, no-untyped-call]


class FusedCrossEntropy(torch.autograd.Function):
    """The sum and its gradients, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        vocab_size: int,
        softcap: float,
        label_smoothing: float,
        needs_gradient: bool,
        compiled: bool,
        weights: Tensor | None,
        shard: VocabShard | None,
    ) -> Tensor:
        """Add up the chunks."""
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        size = CUDA_CHUNK_ROWS if device == "cuda" else CHUNK_ROWS
        chunk_loss = shard.chunk_loss if shard else compiled_chunk_loss() if compiled else chunk_loss_in_place
        matrix = weight.to(dtype)
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if needs_gradient else None
        with torch.autocast(device, enabled=False):
            for start in range(0, targets.numel(), size):
                rows = slice(start, start + size)
                h, target = hidden[rows].to(dtype), targets[rows, None]
                loss, gradient = chunk_loss(
                    F.linear(h, matrix), target, vocab_size, softcap, label_smoothing, needs_gradient
                )
                scale = target != IGNORE_INDEX
                if weights is not None:
                    loss, scale = loss * weights[rows, None], scale * weights[rows, None]
                total += loss.sum()
                if hidden_gradient is None or weight_gradient is None:
                    continue
                hidden_gradient[rows] = (gradient @ matrix) * scale
                add_weight_gradient(weight_gradient, gradient, (h * scale).to(dtype))
        if shard:
            shard.all_reduce(total)
            if hidden_gradient is not None:
                shard.all_reduce(hidden_gradient)
        if needs_gradient:
            ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply both gradients in place by the incoming one, a single number; torch refuses a second pass."""
        hidden, weight = ctx.saved_tensors
        return hidden.mul_(above), weight.mul_(above), *[None] * 8


def chunk_loss_in_place(
    logits: Tensor, target: Tensor, vocab_size: int, softcap: float, label_smoothing: float, needs_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return the losses (rows, 1) of a chunk, and the gradient of their sum with respect to the logits, in their dtype.

    logits (rows, V), which are overwritten if they are in float32; target (rows, 1). The loss is 0 where the target
    does not count, and the gradient arbitrary there. It is empty if it is not needed.
    """
    dtype, logits = logits.dtype, logits.float()
    slope = apply_softcap(logits, softcap, needs_gradient)
    logits[:, vocab_size:] = -torch.inf
    log_probs = logits.log_softmax(-1)
    del logits
    counted, target = target != IGNORE_INDEX, target.clamp(min=0)
    loss = (label_smoothing - 1) * log_probs.gather(1, target)
    if label_smoothing:
        loss -= label_smoothing * log_probs[:, :vocab_size].mean(1, keepdim=True)
    loss = loss.where(counted, 0)
    if not needs_gradient:
        return loss, log_probs.new_empty(0)
    gradient = logit_gradient(log_probs, target, vocab_size, label_smoothing)
    return loss, (gradient if slope is None else gradient.mul_(slope)).to(dtype)


def chunk_loss_to_fuse(
    logits: Tensor, target: Tensor, vocab_size: int, softcap: float, label_smoothing: float, needs_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Compute what chunk_loss_in_place does, by element-wise operations and sums over rows alone.

    torch.compile makes a few kernels of them, which read the logits and write the gradient without any large tensor in
    float32 in between.
    """
    column = torch.arange(logits.size(1), device=logits.device)
    is_token, is_target = column < vocab_size, column == target  # (V,), (rows, V)
    raw = logits.float()
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    log_probs = capped.where(is_token, -torch.inf).log_softmax(-1)
    loss = (label_smoothing - 1) * log_probs.where(is_target, 0).sum(1, keepdim=True)
    if label_smoothing:
        loss = loss - label_smoothing / vocab_size * log_probs.where(is_token, 0).sum(1, keepdim=True)
    loss = loss.where(target != IGNORE_INDEX, 0)
    if not needs_gradient:
        return loss, raw.new_empty(0)
    gradient = log_probs.exp() - (1 - label_smoothing) * is_target - label_smoothing / vocab_size * is_token
    if softcap:
        gradient = gradient * (1 - (capped / softcap).square())
    return loss, gradient.to(logits.dtype)


@functools.cache
def compiled_chunk_loss() -> ChunkLoss:
    """Return chunk_loss_to_fuse, compiled."""
    return torch.compile(chunk_loss_to_fuse)


def apply_softcap(logits: Tensor, softcap: float, needs_slope: bool) -> Tensor | None:
    """Bound logits in place to softcap * tanh(logit / softcap); return the derivative of that if it is needed."""
    if not softcap:
        return None
    logits.div_(softcap).tanh_()
    slope = 1 - logits.square() if needs_slope else None
    logits.mul_(softcap)
    return slope


def logit_gradient(log_probs: Tensor, target: Tensor, vocab_size: int, label_smoothing: float) -> Tensor:
    """Turn log-probabilities (rows, V), in place, into softmax - (1 - smoothing) one-hot - smoothing / V."""
    gradient = log_probs.exp_()
    if label_smoothing:
        gradient[:, :vocab_size] -= label_smoothing / vocab_size
    return gradient.scatter_add_(1, target, torch.full_like(target, label_smoothing - 1, dtype=torch.float32))


def add_weight_gradient(weight_gradient: Tensor, gradient: Tensor, h: Tensor) -> None:
    """Add the product of logit gradients (rows, V) and hidden states (rows, C) to the head's gradient (V, C)."""
    if gradient.dtype == weight_gradient.dtype:
        weight_gradient.addmm_(gradient.mT, h)
        return
    size = CHUNK_COLUMNS if gradient.is_cpu else weight_gradient.size(0)
    for first in range(0, weight_gradient.size(0), size):
        columns = slice(first, first + size)
        weight_gradient[columns] += gradient[:, columns].mT @ h
