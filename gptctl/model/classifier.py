"""A GPT with a classification head instead of next-token logits (Radford et al. 2018, GPT-1, 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gptctl.core.seeds import derive
from gptctl.model.gpt import GPT
from gptctl.model.tensor_part import TensorPart

Pooling = Literal["last", "mean", "max", "concat"]


class Classifier(nn.Module):
    """A GPT and a linear head on the pooled hidden states of each text. B texts of W sequences, L labels.

    Pooling is the state of the last token (last, as in GPT-1), the mean or the maximum over all tokens (mean, max), or
    the concatenation of all three (concat; Howard and Ruder 2018, "ULMFiT", 3.3).
    """

    def __init__(self, gpt: GPT, labels: int, seed: int = 0, dropout: float = 0.1, pooling: Pooling = "last") -> None:
        super().__init__()
        self.gpt = gpt
        self.config = gpt.config
        self.labels = labels
        self.pooling = pooling
        self.label_dropout = nn.Dropout(dropout)
        self.label_head = nn.Linear(gpt.config.hidden_size * (3 if pooling == "concat" else 1), labels)
        if not self.label_head.weight.is_meta:
            weight, bias = (TensorPart.whole(parameter.detach()) for parameter in self.label_head.parameters())
            init_label_head(weight, bias, seed)

    def forward(self, tokens: Tensor, lengths: Tensor, checkpoint_activations: bool = False) -> tuple[Tensor, Tensor]:
        """Return label logits (B, L) and the hidden states (N, T, C) of the N sequences that are not empty.

        tokens (B, W, T) are padded on the right to T; `lengths` (B, W) are those of the sequences. The pooled states of
        a text's sequences are averaged. `checkpoint_activations` is that of GPT.forward.
        """
        if lengths.size(1) == 1:  # without a mask, whose size a GPU would have to send first
            hidden = self.gpt.hidden_states(tokens[:, 0], checkpoint_activations=checkpoint_activations)
            return self.label_head(self.label_dropout(self.pool(hidden, lengths[:, 0]))), hidden
        present = lengths > 0
        flat = lengths[present]  # (N,)
        hidden = self.gpt.hidden_states(tokens[present], checkpoint_activations=checkpoint_activations)
        states = self.pool(hidden, flat)
        owner = present.nonzero()[:, 0]
        sums = states.new_zeros(lengths.size(0), states.size(1)).index_add(0, owner, states)
        pooled = sums / present.sum(1, keepdim=True)
        return self.label_head(self.label_dropout(pooled)), hidden

    def pool(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Pool hidden states (N, T, C) of sequences of `lengths` (N,) to (N, C), or to (N, 3 C) for concat."""
        rows = torch.arange(lengths.numel(), device=hidden.device)
        last = hidden[rows, lengths - 1]
        if self.pooling == "last":
            return last
        inside = (torch.arange(hidden.size(1), device=hidden.device) < lengths[:, None])[..., None]  # (N, T, 1)
        mean = (hidden * inside).sum(1) / lengths[:, None]
        if self.pooling == "mean":
            return mean
        maximum = hidden.masked_fill(~inside, float("-inf")).amax(1)
        return maximum if self.pooling == "max" else torch.cat((last, mean, maximum), dim=1)


def init_label_head(weight: TensorPart, bias: TensorPart, seed: int) -> None:
    """Fill a rank's parts of a label head: N(0, 0.02) and zeros (openai/finetune-transformer-lm, train.py)."""
    generator = torch.Generator().manual_seed(derive(seed, "label head"))
    weight.copy_rows(0, torch.empty(weight.shape).normal_(0, 0.02, generator=generator))
    bias.values.zero_()
