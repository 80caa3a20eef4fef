"""A GPT arranged for generation: fused matrices, no modules, and weights in fp32, bf16, int8 or int4.

It computes what gptctl/model/gpt.py computes; read that to understand the model. At one token per step most of the time
goes into reading weights, and most of the rest into the number of operations. Both are fewer here.

In int8 and int4 the result of a token is the same bit for bit, whatever is read in the same pass; otherwise rounding
activations would make differences of a last bit 10,000 times larger. Products of integers are exact. Attention sums are
split depending on the number of queries and keys, so attention is computed for each token, or each prompt, by
itself where rows differ. A prompt that is read in pieces is the same in any batch, if its pieces are.

Shapes: B batch, T new tokens, S cached slots, C hidden size, H heads, K key-value heads, D head dimension,
F intermediate size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from gptctl.core.errors import MachineError
from gptctl.infer.decoder_layer import (
    MAX_STEP_TOKENS,
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
from gptctl.infer.native.int8_layers import Int4Linear, NativeLinear
from gptctl.infer.native.library import load_library
from gptctl.infer.native.threads import kernel_threads, torch_threads
from gptctl.infer.native_layer import NativeLayer, can_fuse
from gptctl.infer.quantize import Int8Embedding, Int8Linear
from gptctl.model.gpt import GPT, Block
from gptctl.model.kv_cache import KVCache
from gptctl.model.malloc import trim_memory
from gptctl.model.rope import RopeTables, look_up_rope
from gptctl.model.static_kv_cache import StaticKVCache

WeightFormat = Literal["fp32", "bf16", "int8", "int4"]


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
        self.batch_invariant = weights in ("int8", "int4")
        self.is_native = self.batch_invariant and load_library() is not None
        if weights == "int4" and not self.is_native:
            raise MachineError("int4 weights need a CPU with VNNI instructions and a C compiler", "use int8")
        int8: MakeLinear = NativeLinear if self.is_native else Int8Linear
        make = float_linear if not self.batch_invariant else Int4Linear if weights == "int4" else int8
        embedding = model.embedding.weight.detach()
        self.like = embedding.new_empty(0)  # has the dtype and the device of keys and values
        self.embed: Function = Int8Embedding(embedding) if self.batch_invariant else partial(look_up, embedding)
        self.positions = None if model.positions is None else copy_small(model.positions.weight)
        self.tables = {name: table.to(embedding.device) for name, table in model.named_buffers(recurse=False)}
        self.layers: list[DecoderLayer] = []
        for block in model.blocks:
            assert isinstance(block, Block)
            is_fused = self.is_native and can_fuse(block)
            self.layers.append((NativeLayer if is_fused else DecoderLayer)(block, self.config, make))
            trim_memory()  # the matrices that were fused
        self.final_norm = norm_function(model.final_norm)
        self.head = (int8 if self.batch_invariant else make)(model.head_weight(), None)

    def hidden_states(self, tokens: Tensor, cache: KVCache, lengths: Sequence[int] | None = None) -> Tensor:
        """Return the final hidden states (B, T, C) of tokens (B, T), which follow those in `cache`.

        `lengths` are the numbers of tokens in each row of prompts, some of which may be padded. Where the cache is not
        empty, there is one row, and the tokens are a further piece of its prompt.
        """
        if self.is_native and tokens.size(1) > MAX_STEP_TOKENS:  # attention to a prompt takes time
            with torch_threads(kernel_threads()):
                return self.pass_through(tokens, cache, lengths)
        return self.pass_through(tokens, cache, lengths)

    def pass_through(self, tokens: Tensor, cache: KVCache, lengths: Sequence[int] | None) -> Tensor:
        """Compute `hidden_states`."""
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

    def step_threads(self) -> AbstractContextManager[None]:
        """Return the context of a step, in which torch has one thread beside those of the kernels in C."""
        return torch_threads(1) if self.is_native else nullcontext()

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
