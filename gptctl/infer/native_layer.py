"""One block of a Decoder in int8 or int4, whose norms, activation and residual additions are parts of native products.

Shapes: B batch, T new tokens, C hidden size, F intermediate size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptctl.infer.decoder_layer import AttentionSpec, DecoderLayer, MakeLinear
from gptctl.infer.native.int8_layers import NativeLinear
from gptctl.model.attention import Attention
from gptctl.model.feed_forward import FeedForward
from gptctl.model.gpt import Block
from gptctl.model.kv_cache import KVCache
from gptctl.model.rope import RopeTables


def can_fuse(block: Block) -> bool:
    """Return whether a block is one that NativeLayer computes: norms before its parts, and a dense feed-forward."""
    output_norms = block.attention_output_norm, block.feed_forward_output_norm
    has_no_output_norms = all(isinstance(norm, nn.Identity) for norm in output_norms)
    is_dense = isinstance(block.feed_forward, FeedForward)
    return not block.post and has_no_output_norms and block.multiplier == 1 and is_dense


class NativeLayer(DecoderLayer):
    """A block of four products and the attention, each of them one call."""

    def add_matrices(self, block: Block, attention: Attention, make: MakeLinear) -> None:
        """Arrange the matrices with their norms and activations."""
        feed_forward = block.feed_forward
        assert isinstance(feed_forward, FeedForward)
        assert isinstance(make, type) and issubclass(make, NativeLinear)
        heads = attention.query, attention.key, attention.value
        bias = None if attention.query.bias is None else torch.cat([part.bias for part in heads])
        norm = block.attention_norm if self.residual == "parallel_shared_norm" else block.feed_forward_norm
        gate, up, down = feed_forward.gate, feed_forward.up, feed_forward.down
        self.heads_of = make(torch.cat([part.weight for part in heads]), bias, norm=block.attention_norm)
        self.added = make(attention.output.weight, attention.output.bias)
        self.hidden = make(
            up.weight,
            up.bias,
            gate=None if gate is None else (gate.weight, gate.bias),
            norm=norm,
            activation=feed_forward.activation,
        )
        self.down = make(down.weight, down.bias)

    def __call__(self, x: Tensor, rope: RopeTables | None, cache: KVCache, number: int, spec: AttentionSpec) -> Tensor:
        """Map (B, T, C) to (B, T, C); `number` is the layer's."""
        attended = self.added(self.mix(self.heads_of(x), rope, cache, number, spec), x)
        return self.down(self.hidden(attended if self.residual == "sequential" else x), attended)
