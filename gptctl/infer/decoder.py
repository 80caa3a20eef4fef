"""A GPT arranged for generation: fused matrices, no modules, weights in float32, bfloat16 or int8.

It computes what gptctl/model/gpt.py does, which is the model to read. At one token a step most of the time goes into
reading weights, and what is left into the number of operations; both are fewer here.

In int8 a token's result is the same bit for bit, whatever is read in the same pass: rounding activations would make
differences of a last bit 10,000 times larger. Products of integers are exact; attention, whose sums are cut as the
number of queries and keys has it, gets each token, or each prompt, by itself where rows are not alike.

Shapes: B batch, T new tokens, S cached slots, C width, H heads, K key heads, D width per head, F feed-forward size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.infer.quantize import Int8Embedding, Int8Linear
from gptctl.model.attention import Attention, KVCache, rotate
from gptctl.model.config import ModelConfig
from gptctl.model.gpt import GPT, Block, FeedForward
from gptctl.model.moe import Experts, MixtureOfExperts
from gptctl.model.sliding_window import banded_attention

Weights = Literal["fp32", "bf16", "int8"]
Map = Callable[[Tensor], Tensor]
MakeMap = Callable[[Tensor, Tensor | None], Map]


class Look(NamedTuple):
    """What new tokens see. `alone`: each other, and nothing before; else the cache, as far as `mask` has it.

    `pieces`, each for itself: (row, new token, its first slot, the end of its slots); `alone`: all new tokens of a row,
    to the end.
    """

    alone: bool
    mask: Tensor | None
    pieces: Sequence[tuple[int, int, int, int]] = ()


def one_by_one(lengths: Sequence[int], T: int, band: int) -> list[tuple[int, int, int, int]]:
    """Return the pieces of T new tokens behind rows of some lengths, for a band width or none."""
    ends = [(row, step, length + step + 1) for row, length in enumerate(lengths) for step in range(T)]
    return [(row, step, max(0, end - band) if band else 0, end) for row, step, end in ends]


class Decoder:
    """Tokens in, next-token logits out, as GPT; for use without gradients."""

    def __init__(self, model: GPT, weights: Weights = "fp32") -> None:
        """Arrange a model's weights. They are shared where neither fused nor converted; bfloat16 converts `model`."""
        if weights == "bf16":
            model = model.bfloat16()
            model.make_tables()  # positions stay in float32
        self.config = model.config
        self.exact = weights == "int8"
        make: MakeMap = Int8Linear if weights == "int8" else plain_map
        embedding = model.embedding.weight.detach()
        self.like = embedding.new_empty(0)  # of the type and on the device of keys and values
        self.embed: Map = Int8Embedding(embedding) if weights == "int8" else partial(embed, embedding)
        self.positions = None if model.positions is None else own(model.positions.weight)
        self.tables = [getattr(model, name).to(embedding.device) for name in table_names(self.config)]
        self.layers = [Layer(block, self.config, make) for block in model.blocks if isinstance(block, Block)]
        self.final_norm = norm(model.final_norm)
        self.head = make(model.head_weight(), None)

    def hidden_states(self, tokens: Tensor, cache: KVCache, lengths: Sequence[int] | None = None) -> Tensor:
        """Return the final hidden states (B, T, C) of tokens (B, T), which follow those in `cache`.

        `lengths` says how many tokens of each row count, where the others are padding.
        """
        config, T = self.config, tokens.size(1)
        positions = cache.positions(T)  # (T,) or (B, T)
        x = self.embed(tokens)  # (B, T, C)
        if config.embedding_scale:
            x = x * math.sqrt(config.hidden_size)
        angles = None
        if config.positions == "rope":
            cosines, sines = (table[positions].view(-1, 1, T, config.head_dim // 2) for table in self.tables)
            angles = cosines, sines
        else:
            x = x + (self.tables[0] if self.positions is None else self.positions)[positions].to(x.dtype)
        look = self.looks(T, cache, lengths)
        for number, layer in enumerate(self.layers):
            x = layer(x, angles, cache, number, look[layer.band])
        cache.advance(T)
        return self.final_norm(x)

    def looks(self, T: int, cache: KVCache, lengths: Sequence[int] | None) -> dict[int, Look]:
        """Say for each band width among the layers how T new tokens look at those before them and each other."""
        bands, alone = {layer.band for layer in self.layers}, cache.empty
        if self.exact and alone and lengths and min(lengths) < T:
            return dict.fromkeys(bands, Look(True, None, [(row, 0, 0, length) for row, length in enumerate(lengths)]))
        if self.exact and not alone and (T > 1 or not cache.even):
            return {band: Look(False, None, one_by_one(cache.lengths, T, band)) for band in bands}
        return {band: Look(alone, None if alone else cache.mask(T, band)) for band in bands}

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states (..., C) to float32 logits (..., V)."""
        logits = self.head(hidden)[..., : self.config.vocab_size].float()
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits


class Layer:
    """One block: attention, then feed-forward, each added to the residual stream."""

    def __init__(self, block: Block, config: ModelConfig, make: MakeMap) -> None:
        attention = block.attention
        assert isinstance(attention, Attention)
        self.post = block.post
        self.attention_norm, self.feed_forward_norm = norm(block.attention_norm), norm(block.feed_forward_norm)
        self.heads, self.resolved_kv_heads = config.heads, config.resolved_kv_heads
        self.head_dim, self.band, self.grouped = attention.head_dim, attention.band, attention.grouped
        self.project = fused(make, attention.query, attention.key, attention.value)
        self.query_norm = None if attention.query_norm is None else norm(attention.query_norm)
        self.key_norm = None if attention.key_norm is None else norm(attention.key_norm)
        self.output = fused(make, attention.output)
        self.feed_forward = feed_forward(block.feed_forward, make)

    def __call__(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, cache: KVCache, number: int, look: Look
    ) -> Tensor:
        """Map (B, T, C) to (B, T, C); `number` is the layer's."""
        if self.post:
            x = self.attention_norm(x + self.attend(x, angles, cache, number, look))
            return self.feed_forward_norm(x + self.feed_forward(x))
        x = x + self.attend(self.attention_norm(x), angles, cache, number, look)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def attend(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, cache: KVCache, number: int, look: Look
    ) -> Tensor:
        """Return softmax(q k^T / sqrt(D)) v of all heads, mapped back to (B, T, C)."""
        B, T, _ = x.shape
        heads = self.project(x).view(B, T, -1, self.head_dim)  # (B, T, H + 2 K, D)
        q, k, v = torch.split(heads, [self.heads, self.resolved_kv_heads, self.resolved_kv_heads], dim=2)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or K, T, D)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        stored = cache.append(number, k, v, self.band)
        if not look.pieces:
            k, v = (k, v) if look.alone else stored
            y = self.softmax(q, k, v, look.alone, look.mask)
        else:
            y = torch.zeros_like(q)
            for row, step, first, end in look.pieces:
                if look.alone:
                    part = q[row, None, :, :end], k[row, None, :, :end], v[row, None, :, :end]
                    y[row, None, :, :end] = self.softmax(*part, True, None)
                else:
                    keys, values = (kept[number, row, None, :, first:end] for kept in (cache.keys, cache.values))
                    y[row, None, :, step, None] = self.softmax(q[row, None, :, step, None], keys, values, False, None)
        return self.output(y.transpose(1, 2).reshape(B, T, -1))

    def softmax(self, q: Tensor, k: Tensor, v: Tensor, alone: bool, mask: Tensor | None) -> Tensor:
        """Return softmax(q k^T / sqrt(D)) v of all heads: (B, H, T, D)."""
        if alone and self.band:
            return banded_attention(q, k, v, self.band, None, 0.0)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=alone, enable_gqa=self.grouped)


def embed(table: Tensor, tokens: Tensor) -> Tensor:
    """Look tokens up."""
    return table[tokens]


def plain_map(weight: Tensor, bias: Tensor | None) -> Map:
    """Return x -> x W^T + b in the number format of W."""
    weight = weight.detach()
    return lambda x: F.linear(x.to(weight.dtype), weight, bias)


def fused(make: MakeMap, *parts: nn.Module) -> Map:
    """Return linear maps of the same input as one, their outputs side by side."""
    linears = [part for part in parts if isinstance(part, nn.Linear)]
    weights = [part.weight.detach() for part in linears]
    bias = None if linears[0].bias is None else torch.cat([part.bias.detach() for part in linears])
    return make(weights[0] if len(weights) == 1 else torch.cat(weights), bias)


def own(tensor: Tensor) -> Tensor:
    """Copy what is small: the tensors of a file are views of it, and each of them alone would keep all of it."""
    return tensor.detach().clone()


def norm(module: nn.Module) -> Map:
    """Return a normalisation without its module."""
    if isinstance(module, nn.LayerNorm):
        bias = None if module.bias is None else own(module.bias)
        shape, weight = module.normalized_shape, own(module.weight)
        return partial(F.layer_norm, normalized_shape=shape, weight=weight, bias=bias, eps=module.eps)
    if isinstance(module, nn.RMSNorm):
        return partial(
            F.rms_norm, normalized_shape=list(module.normalized_shape), weight=own(module.weight), eps=module.eps
        )
    assert isinstance(module, nn.Identity)
    return lambda x: x


def feed_forward(part: nn.Module, make: MakeMap) -> Map:
    """Return the feed-forward part of a block."""
    if isinstance(part, MixtureOfExperts):
        return QuantizedExperts(part) if make is Int8Linear else partial(mixed, part)
    assert isinstance(part, FeedForward)
    down = fused(make, part.down)
    if part.gate is not None:
        both = fused(make, part.gate, part.up)

        def gated(x: Tensor) -> Tensor:
            gate, up = both(x).chunk(2, dim=-1)  # (B, T, F) each
            return down(F.silu(gate) * up)

        return gated
    up, activation = fused(make, part.up), ACTIVATIONS[part.activation]
    return lambda x: down(activation(up(x)))


ACTIVATIONS: dict[str, Map] = {
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu": F.gelu,
}


def mixed(part: MixtureOfExperts, x: Tensor) -> Tensor:
    """Return the output of a mixture of experts."""
    return part(x)[0]  # type: ignore[no-any-return]


class QuantizedExperts:
    """A mixture of experts with int8 experts; the router stays as it is."""

    def __init__(self, part: MixtureOfExperts) -> None:
        experts = part.experts
        assert isinstance(experts, Experts)
        self.router, self.chosen_count = own(part.router.weight).double(), part.chosen_count  # as exact as the rest
        stacked = zip(experts.gate.detach(), experts.up.detach(), experts.down.detach(), strict=True)
        self.experts = [(Int8Linear(torch.cat((gate, up)), None), Int8Linear(down, None)) for gate, up, down in stacked]

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        rows = x.flatten(0, 1)  # (N, C)
        top, chosen = F.linear(rows.double(), self.router).float().topk(self.chosen_count)  # (N, K)
        shares, out = top.softmax(-1), torch.zeros_like(rows)
        for number in sorted(set(chosen.flatten().tolist())):
            token, place = (chosen == number).nonzero(as_tuple=True)
            both, down = self.experts[number]
            gate, up = both(rows[token]).chunk(2, dim=-1)
            out.index_add_(0, token, down(F.silu(gate) * up) * shares[token, place, None])
        return out.view_as(x)


def table_names(config: ModelConfig) -> tuple[str, ...]:
    """Name the tables that `GPT.make_tables` makes for a model."""
    return {"rope": ("rope_cosines", "rope_sines"), "sinusoidal": ("sines",), "learned": ()}[config.positions]
