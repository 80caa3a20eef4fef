"""The head and its cross-entropy together, some rows at a time: the logits never exist whole.

For GPT-2's vocabulary they are the largest tensor there is: (4 * 1024, 50304) in float32 takes 786 MiB, and the plain
way holds more than one of that size. Here a chunk's gradient is computed while its logits are at hand, in the forward
pass, so nothing is computed twice: the loss is a sum, and what comes in from above is one number. The peak of head and
loss there, gradients included, fell from 2220 to 174 MiB (bfloat16: 2299 to 302), and at (4 * 256, 50304) from 457 to
170 MiB (530 to 361), at the same speed.

Shapes: N rows (tokens), C width, V vocabulary, of which the first `vocab_size` are real and the rest padding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ROWS = 256  # at a time; enough to keep a matrix product busy, and half of it is no faster (GPT-2's vocabulary, Zen 4)
BLOCK = 4096  # of the vocabulary: a bfloat16 product is added on while in the cache, twice as fast as all of it at once
PAYS = 2**21  # logits; fewer stay in the processor's caches, and the plain way is a quarter faster


def fused_cross_entropy_sum(
    hidden: Tensor, weight: Tensor, targets: Tensor, vocab_size: int, ignore: int, softcap: float, smoothing: float
) -> Tensor:
    """Return the cross-entropy in nats, summed over rows, of hidden (N, C), the head's weight (V, C) and targets (N,).

    Rows whose target is `ignore`, a negative number, count nothing. Matrix products are taken in autocast's type, all
    else in float32. `softcap` and `smoothing` are those of GPT.logits and cross_entropy_sum.
    """
    settings = vocab_size, ignore, softcap, smoothing, torch.is_grad_enabled()
    return HeadLoss.apply(hidden, weight, targets, *settings)  # type: ignore[no-any-return, no-untyped-call]


class HeadLoss(torch.autograd.Function):
    """The sum and its gradients, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        vocab_size: int,
        ignore: int,
        softcap: float,
        smoothing: float,
        trains: bool,
    ) -> Tensor:
        """Add up over chunks."""
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        matrix = weight.to(dtype)
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradient = torch.empty_like(hidden) if trains else None
        weight_gradient = torch.zeros_like(weight) if trains else None
        with torch.autocast(device, enabled=False):
            for start in range(0, targets.numel(), ROWS):
                h, target = hidden[start : start + ROWS].to(dtype), targets[start : start + ROWS, None]
                logits = F.linear(h, matrix).float()  # (rows, V)
                if softcap:
                    logits.div_(softcap).tanh_()
                slope = 1 - logits.square() if softcap and trains else None  # of softcap * tanh(logit / softcap)
                if softcap:
                    logits.mul_(softcap)
                logits[:, vocab_size:] = -torch.inf
                logs = logits.log_softmax(-1)
                del logits
                counted, target = target != ignore, target.clamp(min=0)
                loss = (smoothing - 1) * logs.gather(1, target)
                if smoothing:
                    loss -= smoothing * logs[:, :vocab_size].mean(1, keepdim=True)
                total += loss.where(counted, 0).sum()
                if hidden_gradient is None or weight_gradient is None:
                    continue
                gradient = logs.exp_()  # softmax - (1 - smoothing) one-hot - smoothing / V
                if smoothing:
                    gradient[:, :vocab_size] -= smoothing / vocab_size
                gradient.scatter_add_(1, target, torch.full_like(target, smoothing - 1, dtype=torch.float32))
                narrow = (gradient if slope is None else gradient.mul_(slope)).to(dtype)
                hidden_gradient[start : start + ROWS] = (narrow @ matrix) * counted
                h = h * counted
                if dtype == weight.dtype:
                    weight_gradient.addmm_(narrow.mT, h)
                    continue
                for first in range(0, weight.size(0), BLOCK):
                    weight_gradient[first : first + BLOCK] += narrow[:, first : first + BLOCK].mT @ h
        if trains:
            ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply both gradients by the one number that comes in, in place: a second pass is refused by torch."""
        hidden, weight = ctx.saved_tensors
        return hidden.mul_(above), weight.mul_(above), None, None, None, None, None, None
