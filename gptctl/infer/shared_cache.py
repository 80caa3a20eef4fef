"""A key-value cache whose rows join and leave while others go on."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from gptctl.model.config import ModelConfig
from gptctl.model.kv_cache import KVCache

MIN_SLOTS = 128


class SharedCache(KVCache):
    """The first rows of a larger cache, which grows by powers of two and is freed when the last row has left."""

    def __init__(self, config: ModelConfig, like: Tensor) -> None:
        """Begin without rows. Tensors get the dtype and the device of `like`."""
        self.config, self.like = config, like
        self.whole = KVCache(config, 0, 0, like)
        self.keys, self.values = self.whole.keys, self.whole.values
        self.set_lengths([])

    def set_lengths(self, lengths: list[int]) -> None:
        """Set how many rows there are, and how many tokens of each one count."""
        if not lengths:
            self.whole = KVCache(self.config, 0, 0, self.like)
        super().set_lengths(lengths)
        self.show_rows()

    def show_rows(self) -> None:
        """Let keys and values be those of the rows that there are."""
        self.keys, self.values = self.whole.keys[:, : len(self.lengths)], self.whole.values[:, : len(self.lengths)]

    def add_row(self, read: KVCache) -> None:
        """Copy the one row of another cache behind the last row."""
        place, length = len(self.lengths), read.lengths[0]
        self.reserve(place + 1, length + 1)
        self.whole.keys[:, place, :, :length] = read.keys[:, 0, :, :length]
        self.whole.values[:, place, :, :length] = read.values[:, 0, :, :length]
        self.set_lengths([*self.lengths, length])

    def remove_rows(self, leaving: Collection[int]) -> list[int]:
        """Remove rows, and move others from the end to their places. Return the rows that stay, in their new order."""
        stays = [row for row in range(len(self.lengths)) if row not in leaving]
        moved = [row for row in stays if row >= len(stays)]
        order = [moved.pop() if row in leaving else row for row in range(len(stays))]
        for target, source in enumerate(order):
            if target != source:
                length = self.lengths[source]
                self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
                self.values[:, target, :, :length] = self.values[:, source, :, :length]
        self.set_lengths([self.lengths[row] for row in order])
        return order

    def reserve(self, rows: int, slots: int) -> None:
        """Make the cache larger, if it has fewer rows or slots."""
        _, had_rows, _, had_slots, _ = self.whole.keys.shape
        if rows <= had_rows and slots <= had_slots:
            return
        power = max(MIN_SLOTS, 1 << (slots - 1).bit_length())
        more_slots = max(had_slots, min(power, max(slots, self.config.max_seq_len)))
        larger = KVCache(self.config, max(had_rows, 1 << (rows - 1).bit_length()), more_slots, self.like)
        larger.keys[:, :had_rows, :, :had_slots] = self.whole.keys
        larger.values[:, :had_rows, :, :had_slots] = self.whole.values
        self.whole = larger
        self.show_rows()

    def make_room(self) -> None:
        """Reserve a slot for the next token of each row."""
        self.reserve(len(self.lengths), max(self.lengths) + 1)
