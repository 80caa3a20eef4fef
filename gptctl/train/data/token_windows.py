"""One long stream of tokens, cut into windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.io.dataset.tokens import TokenPart
from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.text.packing import window_count, window_offset
from gptctl.train.data.batch import Batch
from gptctl.train.data.data_source import evaluation_batches
from gptctl.train.data.permutation import shuffled_samples


class TokenWindows:
    """Windows of seq_len + 1 tokens that overlap by one token, so that every token is predicted from the one before.

    `parts` are token arrays (uint16 or uint32), or shards that are mapped when they are read, joined end to end. Each
    epoch visits every window once in a new order, and starts the first window elsewhere, so that the cuts move.
    """

    def __init__(self, parts: Sequence[NDArray[Any] | TokenPart], seq_len: int, seed: int, name: str = "train") -> None:
        self.parts = [part for part in parts if len(part)]
        self.ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)
        self.tokens = int(self.ends[-1]) if self.parts else 0
        self.seq_len = seq_len
        self.seed = seed
        if self.tokens < 2:
            raise DataError(f"the {name} split has {self.tokens} tokens, but at least 2 are needed", "add text")
        self.windows = window_count(self.tokens, seq_len)

    @property
    def samples_per_epoch(self) -> int:
        """Count the windows of an epoch."""
        return self.windows

    def count_targets(self, first_index: int, count: int) -> int:
        """Count the targets of `count` windows from a global index on."""
        return count * min(self.seq_len, self.tokens - 1)

    def batch(self, first_index: int, count: int) -> Batch:
        """Return `count` windows in training order; one longer than the stream is padded."""
        out = np.full((count, self.seq_len + 1), IGNORE_INDEX, dtype=np.int64)
        order = shuffled_samples(first_index, count, self.windows, self.seed)
        for row, (epoch, window) in zip(out, order, strict=True):
            self.fill_window(row, window, epoch)
        return Batch.from_windows(torch.from_numpy(out))

    def fill_window(self, row: NDArray[np.int64], window: int, epoch: int) -> None:
        """Write one window of an epoch into `row`, which is all padding."""
        self.copy_tokens(window_offset(self.tokens, self.seq_len, self.seed, epoch) + window * self.seq_len, row)

    def sequential(self, batch_size: int, rank: int = 0, world_size: int = 1, limit: int = 0) -> Iterator[Batch]:
        """Yield windows that cover the stream once, for evaluation: each token but the first is predicted exactly once.

        The last window is padded. Batch i belongs to rank i modulo `world_size`. With a limit these are `limit` windows
        that are spread evenly over the stream.
        """
        starts = range(0, self.tokens - 1, self.seq_len)
        for part in evaluation_batches(len(starts), batch_size, rank, world_size, limit):
            out = np.full((len(part), self.seq_len + 1), IGNORE_INDEX, dtype=np.int64)
            for row, number in zip(out, part, strict=True):
                self.copy_tokens(starts[number], row)
            yield Batch.from_windows(torch.from_numpy(out))

    def copy_tokens(self, start: int, row: NDArray[np.int64]) -> None:
        """Copy the tokens of the stream from `start` on into `row`, up to the end of either."""
        part = int(np.searchsorted(self.ends, start, side="right"))
        filled = 0
        while filled < len(row) and part < len(self.parts):
            begin = start + filled - (int(self.ends[part]) - len(self.parts[part]))
            piece = self.parts[part][begin : begin + len(row) - filled]
            row[filled : filled + len(piece)] = piece
            filled += len(piece)
            part += 1
