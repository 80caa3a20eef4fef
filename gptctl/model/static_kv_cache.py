"""A key-value cache whose size and place never change, with lengths that are known to the device only.

So every pass over the same number of rows and tokens consists of the same kernels on the same memory, which a CUDA
graph or a compiled function needs. KVCache reads fewer slots, and knows its lengths on the host.

Shapes: B rows, T new tokens, S slots, K key-value heads, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gptctl.model.kv_cache import KVCache


class StaticKVCache(KVCache):
    """Keys and values of prompts that were read before, and of the tokens that follow them.

    `advance` does nothing: the lengths are set by whoever decides which tokens stay. A row that has ended may go on: it
    then writes into its own last slot.
    """

    def __init__(self, keys: Tensor, values: Tensor, length_tensor: Tensor, max_seq_len: int) -> None:
        """Take keys and values (layers, B, K, S, D) and lengths (B,), which may be parts of larger tensors."""
        self.keys, self.values, self.length_tensor = keys, values, length_tensor
        self.max_seq_len = max_seq_len
        self.is_uniform = False

    @property
    def is_empty(self) -> bool:
        """False: prompts are read with a KVCache."""
        return False

    def advance(self, count: int) -> None:
        """Leave the lengths as they are."""

    def positions(self, count: int) -> Tensor:
        """Return the positions (B, T) of the next `count` tokens. Those beyond the context repeat the last one."""
        return self.next_slots(count).clamp(max=self.max_seq_len - 1)

    def next_slots(self, count: int) -> Tensor:
        """Return the slots (B, T) of the next `count` tokens."""
        steps = torch.arange(count, device=self.keys.device)
        return (self.length_tensor[:, None] + steps).clamp(max=self.keys.size(3) - 1)

    def update(self, layer: int, k: Tensor, v: Tensor, window: int = 0) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D); return all slots, (B, K, S, D)."""
        slots = self.next_slots(k.size(2))
        rows = torch.arange(k.size(0), device=k.device)[:, None]
        self.keys[layer].transpose(1, 2)[rows, slots] = k.transpose(1, 2)
        self.values[layer].transpose(1, 2)[rows, slots] = v.transpose(1, 2)
        return self.keys[layer], self.values[layer]

    def mask(self, count: int, window: int = 0) -> Tensor:
        """Return what to add to attention logits, (B, 1, T, S): 0 where a new token attends to a slot, else -inf."""
        last = self.next_slots(count)[..., None]
        slots = torch.arange(self.keys.size(3), device=self.keys.device)
        attended = slots <= last
        if window:
            attended = attended & (slots > last - window)
        zeros = torch.zeros(attended.shape, dtype=self.keys.dtype, device=self.keys.device)
        return zeros.masked_fill(~attended, -torch.inf)[:, None]
