"""A GPT that gives a label instead of a next token (Radford et al. 2018, GPT-1, 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptctl.core.seeds import derive
from gptctl.model.gpt import GPT


class Classifier(nn.Module):
    """A GPT and a linear head on the hidden state of each text's last token. L labels."""

    def __init__(self, gpt: GPT, labels: int, seed: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        self.gpt = gpt
        self.config = gpt.config
        self.labels = labels
        self.label_dropout = nn.Dropout(dropout)
        self.label_head = nn.Linear(gpt.config.width, labels)
        with torch.no_grad():  # N(0, 0.02), bias 0: openai/finetune-transformer-lm, train.py
            generator = torch.Generator().manual_seed(derive(seed, "label head"))
            self.label_head.weight.normal_(0, 0.02, generator=generator)
            self.label_head.bias.zero_()

    def forward(self, tokens: Tensor, lengths: Tensor, checkpointed: bool = False) -> tuple[Tensor, Tensor]:
        """Give label logits (B, L) and the hidden states (B, T, C) of tokens (B, T), padded after each row's length.

        `checkpointed` is that of GPT.forward.
        """
        hidden = self.gpt.hidden(tokens, checkpointed=checkpointed)
        last = hidden[torch.arange(tokens.size(0), device=tokens.device), lengths - 1]  # (B, C)
        return self.label_head(self.label_dropout(last)), hidden
