"""One block of a Decoder: attention, then feed-forward, with fused matrices, in fp32, bf16, int8 or int4.

Shapes: B batch, T new tokens, S cached slots, C hidden size, H heads, K key-value heads, D head dimension,
F intermediate size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.infer.native.int8_layers import NativeAttention, NativeLinear
from gptctl.model.attention import Attention, capped_attention
from gptctl.model.config import ModelConfig
from gptctl.model.feed_forward import ACTIVATIONS, FeedForward
from gptctl.model.gpt import Block
from gptctl.model.kv_cache import KVCache
from gptctl.model.moe import Experts, MixtureOfExperts, can_group, choose_experts
from gptctl.model.norms import RMSNormPlusOne
from gptctl.model.rope import RopeTables, apply_rope
from gptctl.model.sliding_window import causal_mask, sliding_window_attention

MAX_STEP_TOKENS = 16  # of a row: a longer pass reads a prompt
Function = Callable[[Tensor], Tensor]
MakeLinear = Callable[[Tensor, Tensor | None], Function]  # (weight, bias) -> x W^T + b


class QuerySlice(NamedTuple):
    """The queries of one attention call: a new token of a row and the cached slots [first, end) that it attends to.

    In a prefill it is a whole row instead: the first `end` of its new tokens attend to each other.
    """

    row: int
    token: int
    first: int
    end: int


class AttentionSpec(NamedTuple):
    """What new tokens attend to: in a prefill to each other, later to the cache where `mask` is True.

    If there are `slices`, each of them is computed by itself. With `is_static` the cache is a StaticKVCache, whose mask
    is added to the logits. With `lengths` (B,), those of the rows before the new tokens, the native kernel computes it.
    """

    is_prefill: bool
    mask: Tensor | None
    slices: Sequence[QuerySlice] = ()
    is_static: bool = False
    lengths: Tensor | None = None


def slices_per_token(lengths: Sequence[int], T: int, window: int) -> list[QuerySlice]:
    """Return a slice for each of T new tokens of rows of the given lengths; a window of 0 is unlimited."""
    ends = [(row, step, length + step + 1) for row, length in enumerate(lengths) for step in range(T)]
    return [QuerySlice(row, step, max(0, end - window) if window else 0, end) for row, step, end in ends]


class DecoderLayer:
    """One block: attention, then feed-forward, each added to the residual stream."""

    def __init__(self, block: Block, config: ModelConfig, make: MakeLinear) -> None:
        attention = block.attention
        assert isinstance(attention, Attention)
        self.post, self.residual, self.multiplier = block.post, block.residual, block.multiplier
        self.heads, self.kv_heads = config.heads, config.resolved_kv_heads
        self.scale, self.softcap, self.clip = attention.scale, attention.softcap, attention.clip
        self.head_dim, self.window, self.grouped = attention.head_dim, attention.window, attention.grouped
        self.norm_over_width = config.qk_norm and config.qk_norm_over == "width"
        self.query_norm = None if attention.query_norm is None else norm_function(attention.query_norm)
        self.key_norm = None if attention.key_norm is None else norm_function(attention.key_norm)
        self.native_attention = native_attention(attention, config) if is_native(make) else None
        self.add_matrices(block, attention, make)

    def add_matrices(self, block: Block, attention: Attention, make: MakeLinear) -> None:
        """Arrange the matrices and the norms around them."""
        self.attention_norm = norm_function(block.attention_norm)
        self.attention_output_norm = norm_function(block.attention_output_norm)
        self.feed_forward_norm = norm_function(block.feed_forward_norm)
        self.feed_forward_output_norm = norm_function(block.feed_forward_output_norm)
        self.project = fuse_linears(make, attention.query, attention.key, attention.value)
        self.output = fuse_linears(make, attention.output)
        self.feed_forward = feed_forward_function(block.feed_forward, make)

    def __call__(self, x: Tensor, rope: RopeTables | None, cache: KVCache, number: int, spec: AttentionSpec) -> Tensor:
        """Map (B, T, C) to (B, T, C); `number` is the layer's."""
        if self.post:
            x = self.attention_norm(x + self.attend(x, rope, cache, number, spec))
            return self.feed_forward_norm(x + self.feed_forward(x))
        normed = self.attention_norm(x)
        attended = self.attention_output_norm(self.attend(normed, rope, cache, number, spec))
        if self.residual == "parallel":
            normed = self.feed_forward_norm(x)
        x = x + (attended if self.multiplier == 1 else attended * self.multiplier)
        if self.residual == "sequential":
            normed = self.feed_forward_norm(x)
        added = self.feed_forward_output_norm(self.feed_forward(normed))
        return x + (added if self.multiplier == 1 else added * self.multiplier)

    def attend(self, x: Tensor, rope: RopeTables | None, cache: KVCache, number: int, spec: AttentionSpec) -> Tensor:
        """Return the output of multi-head attention, (B, T, C)."""
        return self.output(self.mix(self.project(x), rope, cache, number, spec))

    def mix(self, heads: Tensor, rope: RopeTables | None, cache: KVCache, number: int, spec: AttentionSpec) -> Tensor:
        """Return the attention of projected heads (B, T, (H + 2 K) D) before the output matrix, (B, T, H D)."""
        B, T, _ = heads.shape
        if spec.lengths is not None:
            assert self.native_attention is not None
            if self.norm_over_width:
                heads = self.normalize_width(heads)
            return self.native_attention(heads, rope, cache.keys[number], cache.values[number], spec.lengths)
        heads = heads.view(B, T, -1, self.head_dim)
        if self.clip:
            heads = heads.clamp(-self.clip, self.clip)
        q, k, v = torch.split(heads, [self.heads, self.kv_heads, self.kv_heads], dim=2)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.normalize(self.query_norm, q), self.normalize(self.key_norm, k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or K, T, D)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        cached = cache.update(number, k, v, self.window)
        if spec.is_static:
            assert spec.mask is not None
            y = self.masked_attention(q, *cached, spec.mask)
        elif not spec.slices:
            k, v = (k, v) if spec.is_prefill else cached
            y = self.softmax_attention(q, k, v, spec.is_prefill, spec.mask)
        else:
            y = torch.zeros_like(q)
            for row, step, first, end in spec.slices:
                if spec.is_prefill:
                    part = q[row, None, :, :end], k[row, None, :, :end], v[row, None, :, :end]
                    y[row, None, :, :end] = self.softmax_attention(*part, True, None)
                else:
                    keys, values = (kept[number, row, None, :, first:end] for kept in (cache.keys, cache.values))
                    query = q[row, None, :, step, None]
                    y[row, None, :, step, None] = self.softmax_attention(query, keys, values, False, None)
        return y.transpose(1, 2).reshape(B, T, -1)

    def normalize_width(self, heads: Tensor) -> Tensor:
        """Clip and normalize the queries and keys among heads (B, T, (H + 2 K) D) over H and D, before the kernel."""
        assert self.query_norm is not None and self.key_norm is not None
        if self.clip:
            heads = heads.clamp(-self.clip, self.clip)
        q, k, v = torch.split(heads, [self.heads * self.head_dim] + 2 * [self.kv_heads * self.head_dim], dim=-1)
        return torch.cat((self.query_norm(q), self.key_norm(k), v), dim=-1)

    def normalize(self, norm: Function, x: Tensor) -> Tensor:
        """Normalize queries or keys x (B, T, H, D) over D, or over H and D."""
        return norm(x.flatten(2)).view(x.shape) if self.norm_over_width else norm(x)

    def masked_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Return softmax(q k^T / sqrt(D) + mask) v of all heads: (B, H, T, D), for a mask (B, 1, T, S).

        CUDA's fused kernels take either a mask or shared key heads. So the queries of heads that share keys are given
        as further tokens of one head.
        """
        if self.softcap:
            return capped_attention(q, k, v, mask, self.scale, self.softcap)
        T, sharing = q.size(2), self.heads // self.kv_heads
        queries = q.reshape(q.size(0), self.kv_heads, sharing * T, self.head_dim)
        if T > 1 and sharing > 1:
            mask = mask.repeat(1, 1, sharing, 1)
        return F.scaled_dot_product_attention(queries, k, v, attn_mask=mask, scale=self.scale).reshape(q.shape)

    def softmax_attention(self, q: Tensor, k: Tensor, v: Tensor, is_prefill: bool, mask: Tensor | None) -> Tensor:
        """Return softmax(q k^T / sqrt(D)) v of all heads: (B, H, T, D)."""
        if self.softcap:
            mask = causal_mask(q.size(2), q.device, self.window, None) if is_prefill else mask
            return capped_attention(q, k, v, mask, self.scale, self.softcap)
        if is_prefill and self.window:
            return sliding_window_attention(q, k, v, self.window, None, 0.0, self.scale)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=is_prefill, scale=self.scale, enable_gqa=self.grouped
        )


def is_native(make: MakeLinear) -> bool:
    """Return whether products are computed by the kernels in C."""
    return isinstance(make, type) and issubclass(make, NativeLinear)


def native_attention(attention: Attention, config: ModelConfig) -> NativeAttention:
    """Return the kernel of a layer's attention. Norms over the width, and clipping, are left to it."""
    is_prepared = config.qk_norm and config.qk_norm_over == "width"
    return NativeAttention(
        heads=config.heads,
        kv_heads=config.resolved_kv_heads,
        head_dim=attention.head_dim,
        norms=(None, None) if is_prepared else (attention.query_norm, attention.key_norm),
        scale=attention.scale or attention.head_dim**-0.5,
        softcap=attention.softcap,
        clip=0.0 if is_prepared else attention.clip,
        window=attention.window,
    )


def float_linear(weight: Tensor, bias: Tensor | None) -> Function:
    """Return the function x -> x W^T + b, which computes in the dtype of W."""
    weight = weight.detach()
    return lambda x: F.linear(x.to(weight.dtype), weight, bias)


def fuse_linears(make: MakeLinear, *parts: nn.Module) -> Function:
    """Return linear layers of the same input as one function, whose outputs are concatenated.

    The matrices of float layers become rows of the fused one, so that no weight is in memory twice.
    """
    linears = [part for part in parts if isinstance(part, nn.Linear)]
    weights = [part.weight.detach() for part in linears]
    bias = None if linears[0].bias is None else torch.cat([part.bias.detach() for part in linears])
    if len(weights) == 1:
        return make(weights[0], bias)
    fused = torch.cat(weights)
    if make is float_linear:
        for part, rows in zip(linears, torch.split(fused, [len(weight) for weight in weights]), strict=True):
            part.weight.data = rows
    return make(fused, bias)


def copy_small(tensor: Tensor) -> Tensor:
    """Return a copy: the tensors of a file are views of it, and each one keeps the whole file in memory."""
    return tensor.detach().clone()


def norm_function(module: nn.Module) -> Function:
    """Return the function of a normalization module."""
    if isinstance(module, nn.LayerNorm):
        weight, bias = (None if tensor is None else copy_small(tensor) for tensor in (module.weight, module.bias))
        shape = module.normalized_shape
        return partial(F.layer_norm, normalized_shape=shape, weight=weight, bias=bias, eps=module.eps)
    if isinstance(module, nn.RMSNorm):
        shape, weight = module.normalized_shape, copy_small(module.weight)
        if isinstance(module, RMSNormPlusOne):
            weight = 1 + weight
        return partial(F.rms_norm, normalized_shape=list(shape), weight=weight, eps=module.eps)
    assert isinstance(module, nn.Identity)
    return lambda x: x


def feed_forward_function(module: nn.Module, make: MakeLinear) -> Function:
    """Return the function of the feed-forward network or mixture of experts of a block."""
    if isinstance(module, MixtureOfExperts):
        return partial(mixture_output, module) if make is float_linear else Int8Experts(module, make)
    assert isinstance(module, FeedForward)
    down, activation = fuse_linears(make, module.down), ACTIVATIONS[module.activation]
    if module.gate is not None:
        both = fuse_linears(make, module.gate, module.up)

        def gated(x: Tensor) -> Tensor:
            gate, up = both(x).chunk(2, dim=-1)  # (B, T, F) each
            return down(activation(gate) * up)

        return gated
    up = fuse_linears(make, module.up)
    return lambda x: down(activation(up(x)))


def mixture_output(module: MixtureOfExperts, x: Tensor) -> Tensor:
    """Return the output of a mixture of experts without its router logits."""
    experts = module.experts
    assert isinstance(experts, Experts)
    on_cpu = x.is_cpu and not torch.compiler.is_compiling()
    if on_cpu or x.size(1) > MAX_STEP_TOKENS or can_group(x, experts.gate):
        return module(x)[0]  # type: ignore[no-any-return]
    return dense_mixture_output(module, experts, x)


def dense_mixture_output(module: MixtureOfExperts, experts: Experts, x: Tensor) -> Tensor:
    """Compute all experts for every token, where the device would have to send the host how many tokens each one has.

    A step of many rows reads the weights of all experts anyway.
    """
    rows = x.flatten(0, 1)  # (N, C)
    shares, chosen = choose_experts(module.router(x).flatten(0, 1), module.top_k, module.norm_topk_prob)  # (N, k)
    hidden = F.silu(rows @ experts.gate.mT) * (rows @ experts.up.mT)  # (E, N, F)
    outputs = (hidden @ experts.down.mT).transpose(0, 1)  # (N, E, C)
    picked = outputs.gather(1, chosen[..., None].expand(-1, -1, outputs.size(-1)))  # (N, k, C)
    mixed: Tensor = (picked * shares[..., None]).sum(1)
    return module.add_shared(x, mixed.view_as(x).type_as(x))


class Int8Experts:
    """A mixture of experts in int8 or int4; the router is in double precision."""

    def __init__(self, module: MixtureOfExperts, make: MakeLinear) -> None:
        experts = module.experts
        assert isinstance(experts, Experts)
        # In double precision the router's result does not depend on the batch either.
        self.router = copy_small(module.router.weight).double()
        self.top_k, self.norm_topk_prob = module.top_k, module.norm_topk_prob
        stacked = zip(experts.gate.detach(), experts.up.detach(), experts.down.detach(), strict=True)
        self.experts = [(make(torch.cat((gate, up)), None), make(down, None)) for gate, up, down in stacked]
        self.shared = None
        if module.shared_expert is not None and module.shared_gate is not None:
            gate = make(module.shared_gate.weight, None)
            self.shared = gate, feed_forward_function(module.shared_expert, make)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        rows = x.flatten(0, 1)  # (N, C)
        shares, chosen = choose_experts(
            F.linear(rows.double(), self.router).float(), self.top_k, self.norm_topk_prob
        )  # (N, k)
        out = torch.zeros_like(rows)
        for number in sorted(set(chosen.flatten().tolist())):
            token, place = (chosen == number).nonzero(as_tuple=True)
            both, down = self.experts[number]
            gate, up = both(rows[token]).chunk(2, dim=-1)
            out.index_add_(0, token, down(F.silu(gate) * up) * shares[token, place, None])
        if self.shared:
            gate, expert = self.shared
            out = out + torch.sigmoid(gate(rows)) * expert(rows)
        return out.view_as(x)
