"""A GPT arranged for generation: fused matrices, no modules, and weights in float32, bfloat16 or int8.

It computes what gptctl/model/gpt.py computes; read that to understand the model. At one token per step most of the time
goes into reading weights, and most of the rest into the number of operations. Both are fewer here.

In int8 the result of a token is the same bit for bit, whatever is read in the same pass; otherwise rounding activations
would make differences of a last bit 10,000 times larger. Products of integers are exact. Attention sums are split
depending on the number of queries and keys, so attention is computed for each token, or each prompt, by itself where
rows differ. A prompt that is read in pieces is the same in any batch, if its pieces are.

Shapes: B batch, T new tokens, S cached slots, C hidden size, H heads, K key-value heads, D head dimension,
F intermediate size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from gptctl.infer.decoder_layer import (
    AttentionSpec,
    DecoderLayer,
    Function,
    MakeLinear,
    QuerySlice,
    copy_small,
    float_linear,
    norm_function,
    slices_per_token,
)
from gptctl.infer.native.int8_layers import NativeLinear
from gptctl.infer.native.library import load_library
from gptctl.infer.native_layer import NativeLayer, can_fuse
from gptctl.infer.quantize import Int8Embedding, Int8Linear
from gptctl.model.gpt import GPT, Block
from gptctl.model.kv_cache import KVCache
from gptctl.model.malloc import trim_memory
from gptctl.model.rope import RopeTables, look_up_rope
from gptctl.model.static_kv_cache import StaticKVCache

WeightFormat = Literal["fp32", "bf16", "int8"]


class Decoder:
    """Maps token ids to next-token logits, as GPT does, without gradients."""

    def __init__(self, model: GPT, weights: WeightFormat = "fp32") -> None:
        """Arrange the weights of a model.

        Float weights are shared with `model`, whose matrices become rows of fused ones. bfloat16 converts `model`
        itself.
        """
        if weights == "bf16":
            model = model.bfloat16()
            model.make_tables()  # positions stay in float32
        self.config = model.config
        self.batch_invariant = weights == "int8"
        self.is_native = self.batch_invariant and load_library() is not None
        make: MakeLinear = NativeLinear if self.is_native else Int8Linear if self.batch_invariant else float_linear
        embedding = model.embedding.weight.detach()
        self.like = embedding.new_empty(0)  # has the dtype and the device of keys and values
        self.embed: Function = Int8Embedding(embedding) if weights == "int8" else partial(look_up, embedding)
        self.positions = None if model.positions is None else copy_small(model.positions.weight)
        self.tables = {name: table.to(embedding.device) for name, table in model.named_buffers(recurse=False)}
        self.layers: list[DecoderLayer] = []
        for block in model.blocks:
            assert isinstance(block, Block)
            is_fused = make is NativeLinear and can_fuse(block)
            self.layers.append((NativeLayer if is_fused else DecoderLayer)(block, self.config, make))
            trim_memory()  # the matrices that were fused
        self.final_norm = norm_function(model.final_norm)
        self.head = make(model.head_weight(), None)

    def hidden_states(self, tokens: Tensor, cache: KVCache, lengths: Sequence[int] | None = None) -> Tensor:
        """Return the final hidden states (B, T, C) of tokens (B, T), which follow those in `cache`.

        `lengths` are the numbers of tokens in each row of prompts, some of which may be padded. Where the cache is not
        empty, there is one row, and the tokens are a further piece of its prompt.
        """
        config, T = self.config, tokens.size(1)
        positions = cache.positions(T)  # (T,) or (B, T)
        x = self.embed(tokens)  # (B, T, C)
        if config.embedding_scale:
            x = x * math.sqrt(config.hidden_size)
        if config.embedding_multiplier != 1:
            x = x * config.embedding_multiplier
        ropes: dict[str, RopeTables | None] = {"": None}
        if config.positions == "rope":
            ropes = look_up_rope(self.tables, config, positions)
        else:
            x = x + (self.tables["sines"] if self.positions is None else self.positions)[positions].to(x.dtype)
        specs = self.attention_specs(T, cache, lengths)
        for number, layer in enumerate(self.layers):
            x = layer(x, ropes[config.rope_name(number)], cache, number, specs[layer.window])
        cache.advance(T)
        return self.final_norm(x)

    def attention_specs(self, T: int, cache: KVCache, lengths: Sequence[int] | None) -> dict[int, AttentionSpec]:
        """Return for each window size among the layers what T new tokens attend to."""
        windows, is_prefill = {layer.window for layer in self.layers}, cache.is_empty
        if isinstance(cache, StaticKVCache):
            return {window: AttentionSpec(False, cache.mask(T, window), is_static=True) for window in windows}
        if self.batch_invariant and is_prefill and lengths and min(lengths) < T:
            slices = [QuerySlice(row, 0, 0, length) for row, length in enumerate(lengths)]
            return dict.fromkeys(windows, AttentionSpec(True, None, slices))
        if self.is_native and not is_prefill and not lengths:
            return dict.fromkeys(windows, AttentionSpec(False, None, lengths=cache.length_tensor))
        if self.batch_invariant and not is_prefill and not lengths and (T > 1 or not cache.is_uniform):
            return {
                window: AttentionSpec(False, None, slices_per_token(cache.lengths, T, window)) for window in windows
            }
        return {window: AttentionSpec(is_prefill, None if is_prefill else cache.mask(T, window)) for window in windows}

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states (..., C) to float32 logits (..., V)."""
        logits = self.head(hidden)[..., : self.config.vocab_size].float()
        if self.config.logits_scaling != 1:
            logits = logits / self.config.logits_scaling
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits


def look_up(table: Tensor, tokens: Tensor) -> Tensor:
    """Return the rows of a table for token ids."""
    return table[tokens]
