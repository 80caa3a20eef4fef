"""Conversations, packed without cutting any; each attends only to itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.text.packing import best_fit
from gptctl.train.data.batch import Batch
from gptctl.train.data.data_source import evaluation_batches
from gptctl.train.data.permutation import shuffled_samples


class Conversations:
    """Rows of conversations, filled by best-fit packing (gptctl/text/packing.py).

    `tokens` are those of each conversation, and `learned` says which of them are labels. A conversation's last token is
    no input, so it takes one position less than it has tokens. A batch has document_starts.
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
            raise DataError(f"the {name} split is empty", "add conversations, or use a model with a longer context")
        assert max(map(len, tokens)) <= seq_len + 1
        self.tokens = tokens
        self.learned = learned
        self.seq_len = seq_len
        self.seed = seed
        packing = best_fit(np.array([len(each) - 1 for each in tokens]), seq_len)
        self.bounds, self.members = packing.bounds, packing.document

    @property
    def samples_per_epoch(self) -> int:
        """Count the rows of an epoch."""
        return len(self.bounds) - 1

    def batch(self, first_index: int, count: int) -> Batch:
        """Return `count` rows in training order."""
        return self.rows([row for _, row in shuffled_samples(first_index, count, self.samples_per_epoch, self.seed)])

    def sequential(self, batch_size: int, rank: int = 0, world_size: int = 1, limit: int = 0) -> Iterator[Batch]:
        """Yield all rows once, in order, or `limit` of them. Batch i belongs to rank i modulo `world_size`."""
        for part in evaluation_batches(self.samples_per_epoch, batch_size, rank, world_size, limit):
            yield self.rows(part)

    def rows(self, chosen: Sequence[int]) -> Batch:
        """Return the rows with the given numbers."""
        shape = (len(chosen), self.seq_len)
        input_ids = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        starts = np.tile(np.arange(self.seq_len), (len(chosen), 1))  # padding attends to itself alone
        for row, number in enumerate(chosen):
            first = 0
            for member in self.members[self.bounds[number] : self.bounds[number + 1]].tolist():
                tokens, learned = self.tokens[member], self.learned[member]
                end = first + len(tokens) - 1
                input_ids[row, first:end] = tokens[:-1]
                labels[row, first:end] = np.where(learned[1:], tokens[1:], IGNORE_INDEX)
                starts[row, first:end] = first
                first = end
        return Batch(torch.from_numpy(input_ids), torch.from_numpy(labels), torch.from_numpy(starts))
