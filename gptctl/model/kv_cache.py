"""The key-value cache of generation: preallocated slots, and a length of its own for each row.

Shapes: B batch, T new tokens, S cached slots, K key-value heads, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gptctl.model.config import ModelConfig
from gptctl.model.device import to_device


class KVCache:
    """Keys and values of the tokens read so far.

    A token at position p is in slot p. Rows of a ragged batch are padded on the right: what padding wrote is beyond the
    row's length, where no query attends, and is overwritten by the next real token after `set_lengths`.
    """

    def __init__(self, config: ModelConfig, batch_size: int, slots: int, like: Tensor) -> None:
        """Allocate a cache with the dtype and on the device of the tensor `like`."""
        shape = (config.layers, batch_size, config.resolved_kv_heads, slots, config.resolved_head_dim)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)
        self.set_lengths([0] * batch_size)

    def set_lengths(self, lengths: list[int]) -> None:
        """Set how many tokens of each row count."""
        self.lengths = lengths
        self.is_uniform = len(set(lengths)) == 1
        self.length_tensor = to_device(lengths, self.keys.device)  # (B,)

    def advance(self, count: int) -> None:
        """Add `count` tokens to the length of every row, on the device without a transfer."""
        self.lengths = [length + count for length in self.lengths]
        self.length_tensor = self.length_tensor + count

    def select_rows(self, rows: list[int]) -> None:
        """Keep only the given rows, in this order."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.set_lengths([self.lengths[row] for row in rows])

    @property
    def is_empty(self) -> bool:
        """True before anything is stored: new tokens then attend to each other only."""
        return not any(self.lengths)

    def positions(self, count: int) -> Tensor:
        """Return the positions of the next `count` tokens: (T,) where all rows have the same length, else (B, T)."""
        steps = torch.arange(count, device=self.keys.device)
        return steps + self.lengths[0] if self.is_uniform else self.length_tensor[:, None] + steps

    def update(self, layer: int, k: Tensor, v: Tensor, window: int = 0) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D); return those that any new token may attend to, (B, K, S, D).

        They end with the longest row. With a `window` they begin where the shortest row's next token begins to attend.
        """
        count = k.size(2)
        if self.is_uniform:
            start = self.lengths[0]
            self.keys[layer, :, :, start : start + count] = k
            self.values[layer, :, :, start : start + count] = v
        else:
            rows = torch.arange(k.size(0), device=k.device)[:, None]
            slots = self.positions(count)  # (B, T)
            self.keys[layer].transpose(1, 2)[rows, slots] = k.transpose(1, 2)
            self.values[layer].transpose(1, 2)[rows, slots] = v.transpose(1, 2)
        first, end = self.slot_range(count, window)
        return self.keys[layer, :, :, first:end], self.values[layer, :, :, first:end]

    def mask(self, count: int, window: int = 0) -> Tensor | None:
        """Return the mask (B or 1, 1, T, S) of the slots from `update` that each new token attends to; None for all."""
        if self.is_uniform and count == 1:
            return None
        slots = torch.arange(*self.slot_range(count, window), device=self.keys.device)
        positions = self.positions(count)[..., None]
        attended = slots <= positions
        if window:
            attended = attended & (slots > positions - window)
        return attended.view(-1, 1, count, slots.numel())

    def slot_range(self, count: int, window: int) -> tuple[int, int]:
        """Return the first slot that any of the next `count` tokens attends to, and the one after the last."""
        return max(0, min(self.lengths) - window + 1) if window else 0, max(self.lengths) + count
