"""Pairs of a chosen and a rejected answer to one prompt. Pairs of similar length share a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.text.chat import Sample
from gptctl.train.data.batch import Batch
from gptctl.train.data.labelled_texts import LabelledTexts


class EncodedPair(NamedTuple):
    """The tokens of the prompt with each answer, and which of them are the answer's."""

    chosen: Sample
    rejected: Sample


class PreferencePairs(LabelledTexts):
    """Pairs as samples of two sequences, the chosen answer first. Only tokens of the answers are labels."""

    def __init__(self, pairs: Sequence[EncodedPair], seed: int, name: str = "train") -> None:
        super().__init__([[tokens for tokens, _ in pair] for pair in pairs], [0] * len(pairs), seed, name)
        self.pairs = pairs

    def rows(self, chosen: Sequence[int]) -> Batch:
        """Return the pairs with the given numbers: input_ids and labels (B, 2, T), and sequence_lengths (B, 2)."""
        batch = super().rows(chosen)
        is_label = np.zeros(batch.labels.shape, np.bool_)
        for row, number in enumerate(chosen):
            for place, (_, is_answer) in enumerate(self.pairs[number]):
                is_label[row, place, : len(is_answer) - 1] = is_answer[1:]
        labels = batch.labels.where(torch.from_numpy(is_label), IGNORE_INDEX)
        return Batch(batch.input_ids, labels, sequence_lengths=batch.sequence_lengths)
