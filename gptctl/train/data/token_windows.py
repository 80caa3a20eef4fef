"""Batches as a pure function of (seed, global sample index): whoever reads, the same tokens in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.core.seeds import derive
from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.text.packing import best_fit, window_count, window_offset

ROUNDS = 6  # of the Feistel network; 4 suffice in theory (Luby and Rackoff 1988), more cost nothing here


class Samples(Protocol):
    """What a training loop reads. A batch is one int64 tensor whose first axis is the samples, -1 where there is
    nothing; what the other axes mean is between the data and its objective."""

    @property
    def samples_per_epoch(self) -> int:
        """How many samples there are."""

    def batch(self, first_index: int, count: int) -> Tensor:
        """Return `count` training samples from a global index on, which may go past any number of epochs."""

    def sequential(self, batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Go through all samples once, in order; each of `ranks` readers gets its own part."""


class TokenWindows:
    """One long stream of tokens, cut into windows of seq_len + 1 that overlap by one token.

    `parts` are flat token arrays (uint16 or uint32, memory-mapped), joined end to end. Each epoch visits every window
    once in a new order, and starts the first one elsewhere, so that the cuts move.
    """

    def __init__(self, parts: Sequence[NDArray[Any]], seq_len: int, seed: int, name: str = "train") -> None:
        self.parts = [part for part in parts if len(part)]
        self.ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)
        self.tokens = int(self.ends[-1]) if self.parts else 0
        self.seq_len = seq_len
        self.seed = seed
        if self.tokens < 2:
            raise DataError(f"the {name} split has {self.tokens} tokens: too few to predict one", "add text")
        self.windows = window_count(self.tokens, seq_len)

    @property
    def samples_per_epoch(self) -> int:
        """Windows per epoch."""
        return self.windows

    def batch(self, first_index: int, count: int) -> Tensor:
        """Return windows (count, seq_len + 1); -1 fills up where the whole stream is shorter than one window."""
        out = np.full((count, self.seq_len + 1), IGNORE_INDEX, dtype=np.int64)
        for row, (epoch, window) in zip(out, visits(first_index, count, self.windows, self.seed), strict=True):
            self.fill(row, window, epoch)
        return torch.from_numpy(out)

    def fill(self, row: NDArray[np.int64], window: int, epoch: int) -> None:
        """Write one of an epoch's windows into `row`, which is all -1."""
        self.copy(window_offset(self.tokens, self.seq_len, self.seed, epoch) + window * self.seq_len, row)

    def sequential(self, batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Cover the stream once with windows (up to batch_size, seq_len + 1): each token after the first is predicted
        exactly once; the last window is filled up with -1. Batch i goes to reader i modulo `ranks`."""
        starts = range(0, self.tokens - 1, self.seq_len)
        for part in batches(len(starts), batch_size, rank, ranks):
            chosen = starts[part.start : part.stop]
            out = np.full((len(chosen), self.seq_len + 1), IGNORE_INDEX, dtype=np.int64)
            for row, start in zip(out, chosen, strict=True):
                self.copy(start, row)
            yield torch.from_numpy(out)

    def copy(self, start: int, row: NDArray[np.int64]) -> None:
        """Copy the tokens from `start` on into `row`, over the borders of parts, as far as there are any."""
        part = int(np.searchsorted(self.ends, start, side="right"))
        filled = 0
        while filled < len(row) and part < len(self.parts):
            begin = start + filled - (int(self.ends[part]) - len(self.parts[part]))
            piece = self.parts[part][begin : begin + len(row) - filled]
            row[filled : filled + len(piece)] = piece
            filled += len(piece)
            part += 1


class PackedDocuments(TokenWindows):
    """The same stream, packed so that only documents longer than seq_len are cut (see gptctl/text/packing.py).

    `lengths` are those of its documents, in order. A batch's rows start with one token of context, end-of-text before a
    document and else the token before the piece, so every token is a target once an epoch, each after its true
    predecessor: what end-of-text is followed by is learned, as in GPT-2's stream. What is left of a row is -1 and
    carries no loss. Epochs differ in the order of the sequences, not in what shares one. `sequential` reads the plain
    stream, so that losses compare.
    """

    def __init__(
        self, parts: Sequence[NDArray[Any]], lengths: NDArray[np.int64], seq_len: int, seed: int, end_of_text: int
    ) -> None:
        super().__init__(parts, seq_len, seed)
        if lengths.sum() != self.tokens:
            raise DataError(
                f"the documents of the train split have {lengths.sum():,} tokens, the split itself {self.tokens:,}",
                "gptctl doctor checks the token folder; gptctl tokenize ... --force makes it again",
            )
        packing = best_fit(lengths, seq_len)
        self.end_of_text = end_of_text
        self.windows = packing.sequences
        self.bounds = packing.bounds
        self.lengths = packing.length
        self.starts = (np.cumsum(lengths) - lengths)[packing.document] + packing.start  # in the stream
        self.continues = packing.start > 0

    def fill(self, row: NDArray[np.int64], window: int, epoch: int) -> None:
        """Write one packed sequence into `row`, which is all -1."""
        first, end = self.bounds[window : window + 2].tolist()
        row[0] = self.end_of_text
        if self.continues[first]:
            self.copy(int(self.starts[first]) - 1, row[:1])
        filled = 1
        for start, length in zip(self.starts[first:end].tolist(), self.lengths[first:end].tolist(), strict=True):
            self.copy(start, row[filled : filled + length])
            filled += length


def batches(samples: int, batch_size: int, rank: int, ranks: int) -> Iterator[range]:
    """Cut samples into batches, in order; batch i goes to reader i modulo `ranks`, of which this is one."""
    for start in range(rank * batch_size, samples, ranks * batch_size):
        yield range(start, min(start + batch_size, samples))


def visits(first_index: int, count: int, size: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield (epoch, sample) for `count` global indices on: each epoch visits its `size` samples in a new order."""
    indices = np.arange(first_index, first_index + count)
    for epoch in np.unique(indices // size).tolist():
        places = indices[indices // size == epoch] % size
        yield from ((epoch, sample) for sample in permute(places, size, derive(seed, "order", epoch)).tolist())


def permute(indices: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Send each index in [0, size) to its place in a keyed permutation of that range, in constant memory.

    A Feistel network permutes the next power of four; whoever lands outside walks on until inside
    (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", cycle walking).
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    keys = [np.uint64(derive(key, "round", number)) for number in range(ROUNDS)]
    values = indices.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & low
        for round_key in keys:
            left, right = right, left ^ (scramble(right ^ round_key) & low)
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= size
    return values.astype(np.int64)


def scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64 bits (the finalizer of SplitMix64; Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
