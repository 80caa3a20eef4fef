"""Conversations as training samples: packed without cutting any, each blind to the others in its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.text.packing import best_fit
from gptctl.train.data.token_windows import batches, visits


class Conversations:
    """Token arrays and masks of what is learned. A batch is (B, 3, T) int64: inputs, targets, and the place in its row
    where each token's conversation begins; -1 is no input and no target.

    They share rows as best-fit packing has it (gptctl/text/packing.py). A conversation's last token is no input, so it
    fills one place less than it has tokens.
    """

    def __init__(
        self,
        tokens: Sequence[NDArray[Any]],
        learned: Sequence[NDArray[np.bool_]],
        seq_len: int,
        seed: int,
        name: str = "train",
    ) -> None:
        if not tokens:
            raise DataError(f"the {name} split is empty", "give more conversations, or a model with a longer context")
        assert max(map(len, tokens)) <= seq_len + 1
        self.tokens = tokens
        self.learned = learned
        self.seq_len = seq_len
        self.seed = seed
        packing = best_fit(np.array([len(each) - 1 for each in tokens]), seq_len)
        self.bounds, self.members = packing.bounds, packing.document

    @property
    def samples_per_epoch(self) -> int:
        """Rows per epoch."""
        return len(self.bounds) - 1

    def batch(self, first_index: int, count: int) -> Tensor:
        """Return `count` rows from a global index on, each epoch in a new order."""
        return self.rows([row for _, row in visits(first_index, count, self.samples_per_epoch, self.seed)])

    def sequential(self, batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Go through all rows once, in order; batch i goes to reader i modulo `ranks`."""
        for part in batches(self.samples_per_epoch, batch_size, rank, ranks):
            yield self.rows(part)

    def rows(self, chosen: Sequence[int]) -> Tensor:
        """Lay conversations end to end."""
        out = np.full((len(chosen), 3, self.seq_len), IGNORE_INDEX, dtype=np.int64)
        out[:, 2] = np.arange(self.seq_len)  # padding sees itself alone
        for row, number in zip(out, chosen, strict=True):
            first = 0
            for member in self.members[self.bounds[number] : self.bounds[number + 1]].tolist():
                tokens, learned = self.tokens[member], self.learned[member]
                end = first + len(tokens) - 1
                row[0, first:end] = tokens[:-1]
                row[1, first:end] = np.where(learned[1:], tokens[1:], IGNORE_INDEX)
                row[2, first:end] = first
                first = end
        return torch.from_numpy(out)
