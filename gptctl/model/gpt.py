"""One decoder-only Transformer for every family, from 2017 to today.

ModelConfig holds the choices: the position of the norms, the position encoding, the activation, one feed-forward
network or a mixture of experts. A Block adds attention and feed-forward to the residual stream; GPT holds the Blocks.

Shapes: B batch, T time, C hidden size, H heads, F intermediate size, V vocabulary. References to sections without a
title are to Vaswani et al. 2017, "Attention Is All You Need".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from gptctl.model.attention import Attention, AttentionMask
from gptctl.model.block_mask import causal_block_mask, first_keys
from gptctl.model.config import ModelConfig
from gptctl.model.cross_entropy import IGNORE_INDEX, MIN_FUSED_LOGITS, cross_entropy_sum, fused_cross_entropy_sum
from gptctl.model.feed_forward import FeedForward
from gptctl.model.kv_cache import KVCache
from gptctl.model.moe import MixtureOfExperts, router_losses
from gptctl.model.norms import make_norm
from gptctl.model.rope import RopeTables, all_rope_tables, look_up_rope
from gptctl.model.sliding_window import document_mask

if TYPE_CHECKING:  # torch.distributed takes long to import
    from gptctl.model.vocab_parallel import VocabShard


def sinusoidal_positions(length: int, hidden_size: int) -> Tensor:
    """Return PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same (3.5): (length, hidden_size)."""
    pairs = torch.arange(0, hidden_size, 2, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * 10000.0 ** (-pairs / hidden_size)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :hidden_size].float()


class Block(nn.Module):
    """Attention, then feed-forward, each added to the residual stream.

    post: x = LayerNorm(x + Sublayer(x)) (3.1, and GPT-1). pre: x = x + Sublayer(LayerNorm(x)) (GPT-2, 2.3).
    output: x = x + Norm(Sublayer(x)) (OLMo 2). pre_and_output has both norms (Gemma 2). Where the residual is parallel,
    both sublayers read x before either is added (GPT-J).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.post = config.norm_position == "post"
        self.residual, self.multiplier = config.residual, config.residual_multiplier
        has_input, has_output = config.norm_position != "output", config.norm_position in ("output", "pre_and_output")
        shared = config.residual == "parallel_shared_norm"
        self.attention_norm = make_norm(config) if has_input else nn.Identity()
        self.attention = Attention(config, layer)
        self.attention_output_norm = make_norm(config) if has_output else nn.Identity()
        self.feed_forward_norm = make_norm(config) if has_input and not shared else nn.Identity()
        self.feed_forward = MixtureOfExperts(config) if config.experts else FeedForward(config)
        self.feed_forward_output_norm = make_norm(config) if has_output else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)  # on what is added to the residual stream (5.4)

    def forward(
        self,
        x: Tensor,
        rope: RopeTables | None,
        cache: KVCache | None,
        mask: AttentionMask,
        document_starts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Map (B, T, C) to (B, T, C); with experts, return the router logits (B, T, E), too."""
        if self.post:
            x = self.attention_norm(x + self.dropout(self.attention(x, rope, cache, mask, document_starts)))
            added, router_logits = self.feed_forward(x)
            return self.feed_forward_norm(x + self.dropout(added)), router_logits
        normed = self.attention_norm(x)
        attended = self.attention_output_norm(self.attention(normed, rope, cache, mask, document_starts))
        if self.residual == "parallel":
            normed = self.feed_forward_norm(x)
        x = x + self.scaled(self.dropout(attended))
        if self.residual == "sequential":
            normed = self.feed_forward_norm(x)
        added, router_logits = self.feed_forward(normed)
        return x + self.scaled(self.dropout(self.feed_forward_output_norm(added))), router_logits

    def scaled(self, added: Tensor) -> Tensor:
        """Multiply what is added to the residual stream by the factor of the model, if it has one."""
        return added if self.multiplier == 1 else added * self.multiplier


class LossSums(NamedTuple):
    """Loss sums over the `targets` that count in a batch. Add them up over batches and divide once to get means.

    load_balancing and router_z are those of moe.router_losses, summed over layers; 0 without experts.
    """

    cross_entropy: Tensor
    load_balancing: Tensor
    router_z: Tensor
    targets: Tensor


class GPT(nn.Module):
    """A language model that maps token ids to next-token logits."""

    sines: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.padded_vocab_size, config.hidden_size)
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.max_seq_len, config.hidden_size) if learned else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.final_norm = make_norm(config) if config.final_norm else nn.Identity()
        # With tied embeddings, the embedding matrix is the output head, too (3.4; Press and Wolf 2017).
        untied = not config.tie_embeddings
        self.head = nn.Linear(config.hidden_size, config.padded_vocab_size, bias=False) if untied else None
        self.vocab_shard: VocabShard | None = None  # set where ranks split the rows of embedding and head
        self.is_compiled = False
        if not self.embedding.weight.is_meta:  # computing on the meta device would import torch's compiler
            self.make_tables()

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile the blocks in place, and on CUDA the loss of the head. Equal blocks share their code.

        Parameters keep their names. Embeddings, masks and caches stay eager.
        """
        self.is_compiled = True
        for block in self.blocks:
            block.compile(backend=backend)

    def make_tables(self) -> None:
        """Compute the position tables, which follow from the config and are never saved, on the model's device.

        A model that was built on the meta device has none until this is called.
        """
        config, device = self.config, self.embedding.weight.device
        if config.positions == "sinusoidal":
            table = sinusoidal_positions(config.max_seq_len, config.hidden_size)
            self.register_buffer("sines", table.to(device), persistent=False)
        elif config.positions == "rope":
            for name, table in all_rope_tables(config).items():
                self.register_buffer(name, table.to(device), persistent=False)

    def hidden_states(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        document_starts: Tensor | None = None,
        checkpoint_activations: bool = False,
    ) -> Tensor:
        """Return the final hidden states (B, T, C) of tokens (B, T), which follow those in `cache` if it is given.

        The other arguments are those of `forward`.
        """
        return self.run_blocks(tokens, cache, document_starts, checkpoint_activations)[0]

    def run_blocks(
        self, tokens: Tensor, cache: KVCache | None, document_starts: Tensor | None, checkpoint_activations: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `hidden_states` returns, and the logits (B, T, E) of each router."""
        T = tokens.size(1)
        positions = torch.arange(T, device=tokens.device) if cache is None else cache.positions(T)
        if document_starts is not None:
            assert cache is None
            positions = positions - document_starts  # (B, T)
        x, ropes = self.embed(tokens, positions)
        masks = self.attention_masks(tokens, cache, document_starts)
        routers: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            rope = ropes[self.config.rope_name(layer)]
            inputs = x, rope, cache, masks[self.config.layer_window(layer)], document_starts
            if self.is_compiled and len(masks) > 1:
                mark_batch_dynamic(inputs, tokens.size(0))
            if checkpoint_activations:  # Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"
                x, router_logits = checkpoint(block, *inputs, use_reentrant=False)
            else:
                x, router_logits = block(*inputs)
            routers += [] if router_logits is None else [router_logits]
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x), routers

    def embed(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, dict[str, RopeTables | None]]:
        """Return the embeddings (B, T, C) of tokens, and the rotary tables of their positions by rope_name."""
        config = self.config
        shard = self.vocab_shard
        x = shard.embed(tokens, self.embedding.weight) if shard else self.embedding(tokens)  # (B, T, C)
        if config.embedding_scale:
            x = x * math.sqrt(config.hidden_size)  # 3.4
        if config.embedding_multiplier != 1:
            x = x * config.embedding_multiplier
        ropes: dict[str, RopeTables | None] = {"": None}
        if config.positions == "rope":
            ropes = look_up_rope(dict(self.named_buffers(recurse=False)), config, positions)
        elif self.positions is not None:
            x = x + self.positions(positions)
        else:
            x = x + self.sines[positions].type_as(x)  # 3.5
        return self.dropout(x), ropes

    def attention_masks(
        self, tokens: Tensor, cache: KVCache | None, document_starts: Tensor | None
    ) -> dict[int, AttentionMask]:
        """Return an attention mask for each window size among the layers; None where attention is plainly causal."""
        windows = {self.config.layer_window(layer) for layer in range(self.config.layers)}
        if cache is not None and not cache.is_empty:
            return {window: cache.mask(tokens.size(1), window) for window in windows}
        if cache is None and self.uses_block_masks(tokens.device):
            return {
                window: None
                if not window and document_starts is None
                else causal_block_mask(first_keys(tokens.shape, tokens.device, window, document_starts))
                for window in windows
            }
        full = None if document_starts is None or 0 not in windows else document_mask(document_starts)
        return {window: None if window else full for window in windows}

    def uses_block_masks(self, device: torch.device) -> bool:
        """Return whether masks are for FlexAttention, which must be compiled, and has no dropout and no small heads."""
        config = self.config
        has_dropout = self.training and config.attention_dropout > 0
        return self.is_compiled and device.type == "cuda" and config.resolved_head_dim >= 16 and not has_dropout

    def head_weight(self) -> Tensor:
        """Return the matrix (padded V, C) of the output head."""
        return self.embedding.weight if self.head is None else self.head.weight

    def head_input(self, hidden: Tensor) -> Tensor:
        """Return what the head multiplies: hidden states divided by logits_scaling."""
        return hidden if self.config.logits_scaling == 1 else hidden / self.config.logits_scaling

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states (..., C) to logits (..., V), without the padding of the vocabulary."""
        hidden, weight = self.head_input(hidden), self.head_weight()
        padded = self.vocab_shard.logits(hidden, weight) if self.vocab_shard else F.linear(hidden, weight)
        logits = padded[..., : self.config.vocab_size]
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits  # Gemma Team 2024, "Gemma 2", 2

    def cross_entropy(
        self, hidden: Tensor, targets: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None
    ) -> Tensor:
        """Return the summed cross-entropy of hidden states (B, T, C) and targets (B, T), each with its weight if given.

        `label_smoothing` and the targets that count are those of `forward`.
        """
        config, shard = self.config, self.vocab_shard
        if not shard and weights is None and targets.numel() * config.vocab_size < MIN_FUSED_LOGITS:
            return cross_entropy_sum(self.logits(hidden), targets, label_smoothing=label_smoothing)[0]
        weight = self.head_weight()
        return fused_cross_entropy_sum(
            self.head_input(hidden).flatten(0, 1), shard.local_rows(weight) if shard else weight, targets.flatten(),
            config.vocab_size, config.logit_softcap, label_smoothing, self.is_compiled and hidden.is_cuda,
            None if weights is None else weights.flatten(), shard,
        )  # fmt: skip

    def forward(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        targets: Tensor | None = None,
        document_starts: Tensor | None = None,
        label_smoothing: float = 0.0,
        checkpoint_activations: bool = False,
    ) -> Tensor | LossSums:
        """Return logits (B, T, V) of the token after each of tokens (B, T), or with `targets` (B, T) the loss sums.

        Targets equal to IGNORE_INDEX do not count. `document_starts` (B, T), from find_document_starts, holds the
        index in its row at which each token's document begins: no token attends to an earlier document, and positions
        count from there. `label_smoothing` is passed to cross_entropy_sum. `checkpoint_activations` keeps only each
        block's input for the backward pass and recomputes the rest. The caller must not exceed max_seq_len.
        """
        hidden, routers = self.run_blocks(tokens, cache, document_starts, checkpoint_activations)
        if targets is None:
            return self.logits(hidden)
        config, counted = self.config, targets != IGNORE_INDEX
        cross_entropy = self.cross_entropy(hidden, targets, label_smoothing)
        load_balancing = router_z = torch.zeros_like(cross_entropy)
        for logits in routers:
            balance, squares = router_losses(logits, counted, config.experts_per_token)
            load_balancing, router_z = load_balancing + balance, router_z + squares
        return LossSums(cross_entropy, load_balancing, router_z, counted.sum())


def mark_batch_dynamic(inputs: tuple[Any, ...], batch_size: int) -> None:
    """Let torch.compile make code for any batch size above 1 when it first sees these inputs of a block.

    Otherwise it makes code for the first size alone, and then for any. Where full and sliding layers have code of their
    own, training and evaluation would need more versions than torch keeps (8), and the others would not be compiled.
    """
    for tensor in pytree.tree_leaves(inputs):
        if isinstance(tensor, Tensor) and tensor.size(0) == batch_size > 1:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)


def find_document_starts(tokens: Tensor, end_of_text: int) -> Tensor:
    """Return for each of tokens (B, T) the index in its row at which its document begins: (B, T) int64.

    That is the nearest end-of-text token at or before it, which as an input begins the next document, or else index 0.
    """
    index = torch.arange(tokens.size(1), device=tokens.device)
    return torch.where(tokens == end_of_text, index, 0).cummax(1).values
