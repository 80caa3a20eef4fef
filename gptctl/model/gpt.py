"""One readable decoder-only Transformer for every family, from 2017 to today.

The choices are in ModelConfig: where the norm stands, how positions are told, which non-linearity, one feed-forward
part or many. A Block adds attention and a feed-forward part to the residual stream; GPT holds the Blocks.

Shapes: B batch, T time, C width, H heads, F feed-forward size, V vocabulary. References to sections without a title are
to Vaswani et al. 2017, "Attention Is All You Need".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gptctl.model.attention import Attention, KVCache, rotation
from gptctl.model.config import ModelConfig
from gptctl.model.cross_entropy import PAYS, fused_cross_entropy_sum
from gptctl.model.moe import MixtureOfExperts, router_losses
from gptctl.model.sliding_window import document_mask

IGNORE_INDEX = -1  # a target that does not count


def make_norm(config: ModelConfig) -> nn.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019) over C."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.bias)


def sinusoids(length: int, width: int) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same (3.5): (length, width)."""
    pairs = torch.arange(0, width, 2, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * 10000.0 ** (-pairs / width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width].float()


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W_1 + b_1) W_2 + b_2, at each position alone (3.3, equation 2); W_1 is up, W_2 down.

    Later families put another non-linearity in the place of max(0, .).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias)
        gated = config.activation == "swiglu"
        self.gate = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias) if gated else None
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Map (B, T, C) to (B, T, C); None stands where experts give their router's logits."""
        hidden = self.up(x)  # (B, T, F)
        if self.gate is not None:  # Shazeer 2020, "GLU Variants Improve Transformer"
            hidden = F.silu(self.gate(x)) * hidden
        elif self.activation == "relu":
            hidden = F.relu(hidden)
        elif self.activation == "relu2":  # So et al. 2021, "Primer"
            hidden = F.relu(hidden).square()
        else:  # Hendrycks and Gimpel 2016; GPT-1 and GPT-2 use the tanh form
            hidden = F.gelu(hidden, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        return self.down(hidden), None


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
        self.feed_forward = MixtureOfExperts(config) if config.experts else FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)  # on what a part adds (5.4)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        cache: KVCache | None,
        mask: Tensor | None,
        document_starts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Map (B, T, C) to (B, T, C); with experts, give the router's logits (B, T, E) too."""
        if self.post:
            x = self.attention_norm(x + self.dropout(self.attention(x, angles, cache, mask, document_starts)))
            added, routed = self.feed_forward(x)
            return self.feed_forward_norm(x + self.dropout(added)), routed
        x = x + self.dropout(self.attention(self.attention_norm(x), angles, cache, mask, document_starts))
        added, routed = self.feed_forward(self.feed_forward_norm(x))
        return x + self.dropout(added), routed


class LossSums(NamedTuple):
    """Sums over the `targets` that count in a batch, so that adding up batches and dividing once gives means.

    balance and router_z are those of moe.router_losses, summed over layers; 0 without experts.
    """

    cross_entropy: Tensor
    load_balancing: Tensor
    router_z: Tensor
    targets: Tensor


class GPT(nn.Module):
    """Tokens in, next-token logits out."""

    sines: Tensor
    rope_cosines: Tensor
    rope_sines: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.padded_vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_seq_len, config.hidden_size) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.final_norm = make_norm(config) if config.final_norm else nn.Identity()
        # One matrix serves as embedding and pre-softmax map where tied (3.4; Press and Wolf 2017).
        self.head = (
            None if config.tie_embeddings else nn.Linear(config.hidden_size, config.padded_vocab_size, bias=False)
        )
        if not self.embedding.weight.is_meta:  # where torch computes nothing, but imports its compiler for it
            self.make_tables()

    def make_tables(self) -> None:
        """Compute the tables that follow from the config and are never saved. A model without numbers has none yet."""
        config = self.config
        if config.positions == "sinusoidal":
            self.register_buffer("sines", sinusoids(config.max_seq_len, config.hidden_size), persistent=False)
        elif config.positions == "rope":
            cosines, sines = rotation(config, config.max_seq_len)
            self.register_buffer("rope_cosines", cosines, persistent=False)
            self.register_buffer("rope_sines", sines, persistent=False)

    def hidden_states(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        document_starts: Tensor | None = None,
        checkpoint_activations: bool = False,
    ) -> Tensor:
        """Return the final hidden states (B, T, C) of tokens (B, T), which follow those in `cache` if there is one.

        The other arguments are those of `forward`.
        """
        return self.run_blocks(tokens, cache, document_starts, checkpoint_activations)[0]

    def run_blocks(
        self, tokens: Tensor, cache: KVCache | None, document_starts: Tensor | None, checkpoint_activations: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `hidden` gives, and each router's logits (B, T, E)."""
        T = tokens.size(1)
        positions = torch.arange(T, device=tokens.device) if cache is None else cache.positions(T)
        if document_starts is not None:
            assert cache is None
            positions = positions - document_starts  # (B, T)
        x = self.embedding(tokens)  # (B, T, C)
        if self.config.embedding_scale:
            x = x * math.sqrt(self.config.hidden_size)  # 3.4
        angles = None
        if self.config.positions == "rope":
            shape = (-1, 1, T, self.config.head_dim // 2)
            angles = self.rope_cosines[positions].view(shape), self.rope_sines[positions].view(shape)
        elif self.positions is not None:
            x = x + self.positions(positions)
        else:
            x = x + self.sines[positions]  # 3.5
        x = self.dropout(x)
        masks = self.masks(T, cache, document_starts)
        routers: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            inputs = x, angles, cache, masks[self.config.layer_window(layer)], document_starts
            # Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost": keep x, compute the rest again
            x, routed = checkpoint(block, *inputs, use_reentrant=False) if checkpoint_activations else block(*inputs)
            routers += [] if routed is None else [routed]
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x), routers

    def masks(self, T: int, cache: KVCache | None, document_starts: Tensor | None) -> dict[int, Tensor | None]:
        """Return the attention mask of each band width among the layers; None where attention is plainly causal."""
        bands = {self.config.layer_window(layer) for layer in range(self.config.layers)}
        if cache is not None and not cache.empty:
            return {band: cache.mask(T, band) for band in bands}
        return {band: None if document_starts is None or band else document_mask(document_starts) for band in bands}

    def head_weight(self) -> Tensor:
        """Return the matrix (padded V, C) that hidden states are multiplied with."""
        return self.embedding.weight if self.head is None else self.head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states (..., C) to logits (..., V); the padding rows of the vocabulary are cut off."""
        logits = F.linear(hidden, self.head_weight())[..., : self.config.vocab_size]
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits  # Gemma Team 2024, "Gemma 2", 2

    def forward(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        targets: Tensor | None = None,
        document_starts: Tensor | None = None,
        label_smoothing: float = 0.0,
        checkpoint_activations: bool = False,
    ) -> Tensor | LossSums:
        """Return logits (B, T, V) of the token after each of tokens (B, T), or with `targets` (B, T) their LossSums.

        Targets equal to IGNORE_INDEX do not count. `document_starts` (B, T), from find_document_starts, holds the
        index in its row at which each token's document begins: no token attends to an earlier document, and positions
        count from there. `label_smoothing` is passed to cross_entropy_sum. `checkpoint_activations` keeps only each
        block's input for the backward pass and recomputes the rest. The caller must not exceed max_seq_len.
        """
        hidden, routers = self.run_blocks(tokens, cache, document_starts, checkpoint_activations)
        if targets is None:
            return self.logits(hidden)
        config, counted = self.config, targets != IGNORE_INDEX
        if targets.numel() * config.vocab_size < PAYS:
            cross_entropy, _ = cross_entropy_sum(self.logits(hidden), targets, label_smoothing=label_smoothing)
        else:
            settings = config.vocab_size, IGNORE_INDEX, config.logit_softcap, label_smoothing
            cross_entropy = fused_cross_entropy_sum(
                hidden.flatten(0, 1), self.head_weight(), targets.flatten(), *settings
            )
        balance = router_z = torch.zeros_like(cross_entropy)
        for logits in routers:
            balances, squares = router_losses(logits, counted, config.experts_per_token)
            balance, router_z = balance + balances, router_z + squares
        return LossSums(cross_entropy, balance, router_z, counted.sum())


def find_document_starts(tokens: Tensor, end_of_text: int) -> Tensor:
    """Return for each of tokens (B, T) the place in its row where its document begins: (B, T) int64.

    That is the nearest end-of-text at or before it, which as an input begins the next document, or the row's begin.
    """
    places = torch.arange(tokens.size(1), device=tokens.device)
    return torch.where(tokens == end_of_text, places, 0).cummax(1).values


def cross_entropy_sum(
    logits: Tensor,
    targets: Tensor,
    ignore: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy in nats and how many targets counted.

    logits (..., V), targets (...) int64. The sum over all micro-batches and ranks is divided once by the count over the
    same, so that neither padding nor the number of ranks can change a gradient. `label_smoothing` is that of
    5.4. `weights` (V,) weight each target in the sum, but not in the count.
    """
    flat = targets.flatten()
    total = F.cross_entropy(
        logits.flatten(0, -2).float(),
        flat,
        weights,
        ignore_index=ignore,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return total, (flat != ignore).sum()
