"""Labelled texts as batches for a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.core.seeds import derive
from gptctl.model.gpt import IGNORE
from gptctl.train.data import permute


class LabelledTexts:
    """Texts as token ids with a label each. A batch is (B, 1 + T): label, then tokens, filled up with -1.

    Texts longer than `context` keep their beginning and, if `end` is given, that token as their last.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[int] | NDArray[Any]],
        labels: Sequence[int],
        context: int,
        seed: int,
        end: int | None = None,
    ) -> None:
        if not texts:
            raise DataError("no labelled text is left", "check --text-column and --label-column")
        self.texts = texts
        self.labels = labels
        self.context = context
        self.seed = seed
        self.end = end

    @property
    def samples_per_epoch(self) -> int:
        """How many texts there are."""
        return len(self.texts)

    def batch(self, first_index: int, count: int) -> Tensor:
        """Give texts in an order that is new in each epoch."""
        indices = np.arange(first_index, first_index + count)
        chosen: list[int] = []
        for epoch in np.unique(indices // len(self.texts)).tolist():
            places = indices[indices // len(self.texts) == epoch] % len(self.texts)
            chosen += permute(places, len(self.texts), derive(self.seed, "order", epoch)).tolist()
        return self.gather(chosen)

    def sequential(self, batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Go through all texts once, in order."""
        for number in range(rank, -(-len(self.texts) // batch_size), ranks):
            yield self.gather(range(number * batch_size, min((number + 1) * batch_size, len(self.texts))))

    def gather(self, chosen: Sequence[int]) -> Tensor:
        """Put texts side by side."""
        rows = [self.shorten(self.texts[index]) for index in chosen]
        out = np.full((len(rows), 1 + max(1, *map(len, rows))), IGNORE, dtype=np.int64)
        out[:, 0] = [self.labels[index] for index in chosen]
        for filled, row in zip(out, rows, strict=True):
            filled[1 : 1 + len(row)] = row
        return torch.from_numpy(out)

    def shorten(self, text: Sequence[int] | NDArray[Any]) -> Sequence[int] | NDArray[Any]:
        """Cut a text to the context, its end token in place."""
        if self.end is None:
            return text[: self.context]
        return [*text[: self.context - 1], self.end]
