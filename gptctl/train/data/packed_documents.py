"""A stream of documents, packed so that only documents longer than a sequence are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.io.dataset.tokens import TokenPart
from gptctl.text.packing import best_fit
from gptctl.train.data.permutation import shuffled_samples
from gptctl.train.data.token_windows import TokenWindows


class PackedDocuments(TokenWindows):
    """Sequences of whole documents, filled by best-fit packing (gptctl/text/packing.py).

    `lengths` are those of the stream's documents, in order. Each row starts with one token of context: end-of-text
    before a document, else the token before the piece. So every token is a label once an epoch, after its true
    predecessor, and what follows end-of-text is learned as in GPT-2's stream. The rest of a row is padding. Epochs
    differ in the order of the sequences, not in their content. `sequential` reads the plain stream, so that losses can
    be compared between packings.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[Any] | TokenPart],
        lengths: NDArray[np.int64],
        seq_len: int,
        seed: int,
        end_of_text: int,
    ) -> None:
        super().__init__(parts, seq_len, seed)
        if lengths.sum() != self.tokens:
            raise DataError(
                f"the documents of the train split have {lengths.sum():,} tokens, the split itself {self.tokens:,}",
                "check the token folder with gptctl doctor, or make it again with gptctl tokenize ... --force",
            )
        packing = best_fit(lengths, seq_len)
        self.end_of_text = end_of_text
        self.windows = packing.sequences
        self.bounds = packing.bounds
        self.lengths = packing.length
        self.targets = np.diff(np.concatenate(([0], np.cumsum(packing.length)))[packing.bounds])  # of each sequence
        self.starts = (np.cumsum(lengths) - lengths)[packing.document] + packing.start  # in the stream
        self.continues = packing.start > 0

    def count_targets(self, first_index: int, count: int) -> int:
        """Count the targets of `count` sequences from a global index on: padding is none."""
        windows = [window for _, window in shuffled_samples(first_index, count, self.windows, self.seed)]
        return int(self.targets[windows].sum())

    def fill_window(self, row: NDArray[np.int64], window: int, epoch: int) -> None:
        """Write one packed sequence into `row`, which is all padding."""
        first, end = self.bounds[window : window + 2].tolist()
        row[0] = self.end_of_text
        if self.continues[first]:
            self.copy_tokens(int(self.starts[first]) - 1, row[:1])
        filled = 1
        for start, length in zip(self.starts[first:end].tolist(), self.lengths[first:end].tolist(), strict=True):
            self.copy_tokens(start, row[filled : filled + length])
            filled += length
