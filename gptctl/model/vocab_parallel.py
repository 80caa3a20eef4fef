"""Embedding and output head whose rows, one for each token, are split over a group of ranks.

Shoeybi et al. 2019, "Megatron-LM", 3. A rank looks up the tokens of its own rows, and the results are summed. It
computes the logits of its own rows, and the ranks exchange one number per target, so that all logits exist nowhere in
training. torch's styles would compute the gradient of the whole table on every rank (RowwiseParallel of an embedding),
and all logits at once without label smoothing (loss_parallel).

Shapes: N targets, C hidden size, V' rows of this rank. The hidden states are the same on all ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.nn import functional as F

from gptctl.model.cross_entropy import IGNORE_INDEX, apply_softcap


@dataclass(frozen=True)
class VocabShard:
    """The rows of the vocabulary that this rank holds: those of the tokens `first`, `first` + 1 and so on."""

    first: int
    group: Any  # of the ranks that hold all rows together

    def embed(self, tokens: Tensor, table: Tensor) -> Tensor:
        """Return the rows (..., C) of tokens (...) of a table, a DTensor (V, C), on every rank."""
        rows = self.local_rows(table)
        row, is_own = self.own_rows(tokens, rows.size(0))
        return SumOverRanks.apply(F.embedding(row, rows) * is_own[..., None], self.group)  # type: ignore[no-any-return, no-untyped-call]

    def local_rows(self, table: Tensor) -> Tensor:
        """Return the rows (V', C) that this rank holds of a table, a DTensor (V, C). Gradients reach the table."""
        assert isinstance(table, DTensor)
        return table.to_local()

    def own_rows(self, tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the index of each token among this rank's `count` rows, and whether it is one of them."""
        row = tokens - self.first
        return row.clamp(0, count - 1), (row >= 0) & (row < count)

    def logits(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Return all logits (..., V) of hidden states (..., C) on every rank: what a loss should not need."""
        assert isinstance(weight, DTensor)
        shared = DTensor.from_local(hidden, weight.device_mesh, (Replicate(),), run_check=False)
        logits = F.linear(shared, weight)
        assert isinstance(logits, DTensor)
        return logits.full_tensor()

    def chunk_loss(
        self,
        logits: Tensor,
        target: Tensor,
        vocab_size: int,
        softcap: float,
        label_smoothing: float,
        needs_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return this rank's part of what cross_entropy.chunk_loss_in_place returns for a chunk of N targets.

        logits (N, V') are those of its rows, and so is the gradient. The losses (N, 1) of all ranks are to be added.
        """
        dtype, logits = logits.dtype, logits.float()
        slope = apply_softcap(logits, softcap, needs_gradient)
        own_tokens = min(max(0, vocab_size - self.first), logits.size(1))  # all but padding
        logits[:, own_tokens:] = -torch.inf
        log_probs = logits.sub_(self.log_sum_exp(logits))
        row, is_own = self.own_rows(target, logits.size(1))
        loss = (label_smoothing - 1) * log_probs.gather(1, row).where(is_own, 0)
        if label_smoothing:
            loss -= label_smoothing / vocab_size * log_probs[:, :own_tokens].sum(1, keepdim=True)
        loss = loss.where(target != IGNORE_INDEX, 0)
        if not needs_gradient:
            return loss, log_probs.new_empty(0)
        gradient = log_probs.exp_()
        if label_smoothing:
            gradient[:, :own_tokens] -= label_smoothing / vocab_size
        gradient.scatter_add_(1, row, (label_smoothing - 1) * is_own)
        return loss, (gradient if slope is None else gradient.mul_(slope)).to(dtype)

    def log_sum_exp(self, logits: Tensor) -> Tensor:
        """Return the logarithm of the sum of the exponentials of all ranks' logits (N, V'), row by row: (N, 1)."""
        own = logits.logsumexp(1, keepdim=True)
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(gathered, own, group=self.group)
        return torch.cat(gathered, dim=1).logsumexp(1, keepdim=True)

    def all_reduce(self, values: Tensor) -> None:
        """Sum values over the ranks, in place."""
        dist.all_reduce(values, group=self.group)


class SumOverRanks(torch.autograd.Function):
    """A sum over ranks whose gradient every rank has."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        """Return the sum."""
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        """Return the gradient as it is."""
        return above, None
