"""One readable decoder-only Transformer for every family, from 2017 to today.

The choices are in ModelConfig: where the norm stands, how positions are told, which non-linearity. Read from the
bottom: GPT holds Blocks, a Block adds attention and a feed-forward part to the residual stream.

Shapes: B batch, T time, C width, H heads, F feed-forward size, V vocabulary. References to sections without a title are
to Vaswani et al. 2017, "Attention Is All You Need".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.attention import Attention, KVCache, rotation
from gptctl.model.config import ModelConfig

IGNORE = -1  # a target that does not count


def make_norm(config: ModelConfig) -> nn.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019) over C."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.width, config.norm_eps)
    return nn.LayerNorm(config.width, config.norm_eps, bias=config.bias)


def sinusoids(length: int, width: int) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same (3.5): (length, width)."""
    pairs = torch.arange(0, width, 2, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * 10000.0 ** (-pairs / width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width].float()


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between, applied to each position alone (3.3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up = nn.Linear(config.width, config.feed_forward, bias=config.bias)
        gated = config.activation == "swiglu"
        self.gate = nn.Linear(config.width, config.feed_forward, bias=config.bias) if gated else None
        self.down = nn.Linear(config.feed_forward, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        hidden = self.up(x)  # (B, T, F)
        if self.gate is not None:  # Shazeer 2020, "GLU Variants Improve Transformer"
            hidden = F.silu(self.gate(x)) * hidden
        elif self.activation == "relu":
            hidden = F.relu(hidden)
        elif self.activation == "relu2":  # So et al. 2021, "Primer"
            hidden = F.relu(hidden).square()
        else:  # Hendrycks and Gimpel 2016; GPT-1 and GPT-2 use the tanh form
            hidden = F.gelu(hidden, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        return self.down(hidden)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then feed-forward, each added to the residual stream.

    post: x = LayerNorm(x + Sublayer(x)) (3.1, and GPT-1). pre: x = x + Sublayer(LayerNorm(x)) (GPT-2, 2.3).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.post = config.norm_position == "post"
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)  # on what a part adds (5.4)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, cache: KVCache | None, mask: Tensor | None
    ) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        if self.post:
            x = self.attention_norm(x + self.dropout(self.attention(x, angles, cache, mask)))
            return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))  # type: ignore[no-any-return]
        x = x + self.dropout(self.attention(self.attention_norm(x), angles, cache, mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """Tokens in, next-token logits out."""

    sines: Tensor
    rope_cosines: Tensor
    rope_sines: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.padded_vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.final_norm = make_norm(config) if config.final_norm else nn.Identity()
        # One matrix serves as embedding and pre-softmax map where tied (3.4; Press and Wolf 2017).
        self.head = None if config.tie_embeddings else nn.Linear(config.width, config.padded_vocab_size, bias=False)
        self.make_tables()

    def make_tables(self) -> None:
        """Compute the tables that follow from the config and are never saved."""
        config = self.config
        if config.positions == "sinusoidal":
            self.register_buffer("sines", sinusoids(config.context, config.width), persistent=False)
        elif config.positions == "rope":
            cosines, sines = rotation(config, config.context)
            self.register_buffer("rope_cosines", cosines, persistent=False)
            self.register_buffer("rope_sines", sines, persistent=False)

    def hidden(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Give the final hidden states (B, T, C) of tokens (B, T), which follow those in `cache` if there is one."""
        T = tokens.size(1)
        if cache is None:
            positions, mask = torch.arange(T, device=tokens.device), None
        else:
            positions, mask = cache.positions(T), cache.mask(T)
        x = self.embedding(tokens)  # (B, T, C)
        if self.config.embedding_scale:
            x = x * math.sqrt(self.config.width)  # 3.4
        angles = None
        if self.config.positions == "rope":
            shape = (-1, 1, T, self.config.head_width // 2)
            angles = self.rope_cosines[positions].view(shape), self.rope_sines[positions].view(shape)
        elif self.positions is not None:
            x = x + self.positions(positions)
        else:
            x = x + self.sines[positions]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, angles, cache, mask)
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states (..., C) to logits (..., V); the padding rows of the vocabulary are cut off."""
        weight = self.embedding.weight if self.head is None else self.head.weight
        logits = F.linear(hidden, weight)[..., : self.config.vocab_size]
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits  # Gemma Team 2024, "Gemma 2", 2

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Give logits (B, T, V) of the token after each of tokens (B, T).

        Positions beyond the context are the caller's mistake; the stages cut or stop before.
        """
        return self.logits(self.hidden(tokens, cache))


def loss_sum(logits: Tensor, targets: Tensor, ignore: int = IGNORE, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Give the summed cross-entropy in nats and how many targets counted.

    logits (..., V), targets (...) int64. The sum over all micro-batches and ranks is divided once by the count over the
    same, so that neither padding nor the number of ranks can change a gradient. `smoothing` is 5.4's label smoothing.
    """
    flat = targets.flatten()
    total = F.cross_entropy(
        logits.flatten(0, -2).float(), flat, ignore_index=ignore, reduction="sum", label_smoothing=smoothing
    )
    return total, (flat != ignore).sum()
