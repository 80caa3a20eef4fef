"""Packing documents into training sequences, and what that costs in padding and truncated documents.

Best-fit packing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", ICML) cuts only documents that are
longer than a sequence. It fills sequences with the pieces, the longest first, and puts each where it leaves the least
space. One rule is added to the paper's: of two adjacent pieces, the first ends its document and the second begins one,
so that every token follows its true predecessor, which is end-of-text for the first token of a document. A cut document
has one piece shorter than a sequence, its remainder. So a sequence holds at most two remainders: the end of a document
in front and the beginning of one behind. Where a document is cut depends on which of these its remainder is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gptctl.core.seeds import derive

Pack = Literal["concat", "bestfit"]
Integers = NDArray[np.int64]
MAX_REMAINDERS = 2  # in a sequence: one at each end


@dataclass(frozen=True)
class Packing:
    """Pieces of documents, in the order of the sequences. Sequence i holds the pieces from bounds[i] to bounds[i + 1].

    `start` is the offset of a piece in its document, `length` its length, both in tokens.
    """

    document: Integers
    start: Integers
    length: Integers
    bounds: Integers

    @property
    def sequences(self) -> int:
        """Return the number of sequences."""
        return len(self.bounds) - 1


@dataclass(frozen=True)
class PackingReport:
    """What a packing costs in one epoch. Shares are between 0 and 1."""

    pack: Pack
    documents: int
    tokens: int
    sequences: int
    seq_len: int
    truncated: int | None  # documents that are cut at the end of a sequence; None if their lengths are not known
    padding: float  # share of positions in sequences without a target
    unused_tokens: int  # tokens that are not a target in the epoch
    utilisation: float  # share of tokens that are a target

    @property
    def targets(self) -> int:
        """Return the number of targets in the epoch."""
        return self.tokens - self.unused_tokens

    def positions(self, targets: int) -> int:
        """Return the number of positions, padding included, of sequences with this many targets."""
        return -(-targets * self.sequences * self.seq_len // max(1, self.targets))

    def summary(self) -> str:
        """Return the report in one line."""
        truncated = "" if self.truncated is None else f"{self.truncated:,} of {self.documents:,} documents truncated, "
        return (
            f"packing {self.pack}: {self.sequences:,} sequences of {self.seq_len:,} tokens, {truncated}"
            f"{self.padding:.2%} padding, {self.utilisation:.2%} of {self.tokens:,} tokens used per epoch"
        )


def concat_report(documents: int, tokens: int, seq_len: int) -> PackingReport:
    """Return a report on an epoch over one stream of documents.

    Windows of seq_len + 1 tokens cut documents where they end, and leave less than two windows unread at the end. Which
    documents are cut depends on their lengths, which are not needed otherwise.
    """
    sequences = window_count(tokens, seq_len)
    used = max(0, min(sequences * seq_len, tokens - 1))
    return PackingReport(
        "concat", documents, tokens, sequences, seq_len, None,
        1 - used / max(1, sequences * seq_len), tokens - used, used / max(1, tokens),
    )  # fmt: skip


def combine_reports(reports: Sequence[PackingReport]) -> PackingReport:
    """Return a report on an epoch over the documents of all reports, whose sequences are equally long."""
    if len(reports) == 1:
        return reports[0]
    documents, tokens, sequences, unused = (
        sum(getattr(report, name) for report in reports)
        for name in ("documents", "tokens", "sequences", "unused_tokens")
    )
    cut = [report.truncated for report in reports if report.truncated is not None]
    truncated = sum(cut) if len(cut) == len(reports) else None
    used, seq_len = tokens - unused, reports[0].seq_len
    return PackingReport(
        reports[0].pack, documents, tokens, sequences, seq_len, truncated,
        1 - used / max(1, sequences * seq_len), unused, used / max(1, tokens),
    )  # fmt: skip


def best_fit_report(lengths: Integers, seq_len: int) -> PackingReport:
    """Return a report on an epoch over documents of `lengths` tokens that are packed by best fit."""
    tokens, sequences = int(lengths.sum()), best_fit(lengths, seq_len).sequences
    padding = 1 - tokens / max(1, sequences * seq_len)
    truncated = int((lengths > seq_len).sum())
    return PackingReport(
        "bestfit", len(lengths), tokens, sequences, seq_len, truncated, padding, 0, tokens / max(1, tokens)
    )


def window_count(tokens: int, seq_len: int) -> int:
    """Return the number of windows of a stream: if several fit, one less than fits, so that the start can move."""
    return max(1, (tokens - seq_len) // seq_len)


def window_offset(tokens: int, seq_len: int, seed: int, epoch: int) -> int:
    """Return the token at which the first window of an epoch starts, which differs between epochs."""
    spare = max(0, tokens - 1 - window_count(tokens, seq_len) * seq_len)
    return derive(seed, "offset", epoch) % (min(seq_len - 1, spare) + 1)


def best_fit(lengths: Integers, capacity: int) -> Packing:
    """Pack documents of `lengths` tokens into sequences of `capacity`. Every token is in exactly one piece.

    The result depends on the arguments alone: among equal lengths, earlier documents come first. Empty documents have
    no piece.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    full, remainder = np.divmod(lengths, capacity)
    cut = lengths > capacity
    full[lengths == capacity] = 0
    small = np.flatnonzero(np.where(cut, remainder, lengths))  # documents with a piece that can share a sequence
    sizes = np.where(cut, remainder, lengths)[small]
    bins, count = assign_bins(sizes, cut[small], capacity)

    # The first remainder in a sequence ends its document and comes first. The second begins one and comes last.
    rest = np.flatnonzero(cut[small])
    rest = rest[np.argsort(bins[rest], kind="stable")]
    begins = rest[1:][bins[rest[1:]] == bins[rest[:-1]]]
    position = np.where(cut[small], 0, 1)
    position[begins] = 2
    start = np.where(cut[small], full[small] * capacity, 0)
    start[begins] = 0

    shift = np.zeros(len(lengths), np.int64)  # of the full pieces of each document
    shift[small[begins]] = sizes[begins]
    owner = np.repeat(np.arange(len(lengths)), full)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(full) - full, full)

    order = np.lexsort((position, bins))
    return Packing(
        document=np.concatenate((small[order], owner)),
        start=np.concatenate((start[order], shift[owner] + number * capacity)),
        length=np.concatenate((sizes[order], np.full(len(owner), capacity, np.int64))),
        bounds=np.concatenate((
            np.searchsorted(bins[order], np.arange(count)), len(small) + np.arange(len(owner) + 1)
        )),
    )  # fmt: skip


def assign_bins(sizes: Integers, is_remainder: NDArray[np.bool_], capacity: int) -> tuple[Integers, int]:
    """Return the sequence of each piece and the number of sequences, by best fit, the longest pieces first.

    All pieces of one size are placed together, into all sequences with equal space at once. The fullest sequence that
    fits stays the fullest until no more pieces fit, so the result is the same as one by one.
    """
    bins = np.empty(len(sizes), np.int64)
    open_bins = OpenBins(capacity)
    order = np.lexsort((~is_remainder, -sizes))  # of one size, remainders first: fewer sequences can take them
    keys = sizes[order] * 2 + is_remainder[order]
    for group in np.split(order, np.flatnonzero(np.diff(keys)) + 1) if len(order) else []:
        bins[group] = open_bins.place(len(group), int(sizes[group[0]]), bool(is_remainder[group[0]]))
    return bins, open_bins.count


class OpenBins:
    """Sequences that are not full, grouped by their free space and the number of remainders that they hold."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0  # sequences so far
        self.groups: list[list[Integers]] = [
            [np.empty(0, np.int64)] * (capacity + 1) for _ in range(MAX_REMAINDERS + 1)
        ]
        self.is_used = np.zeros((MAX_REMAINDERS + 1, capacity + 1), dtype=bool)

    def place(self, pieces: int, size: int, is_remainder: bool) -> Integers:
        """Place pieces of one size and return the sequence of each."""
        placed: list[Integers] = []
        for space, remainders in self.fitting(size, is_remainder):
            each = space // size
            if is_remainder:
                each = min(each, MAX_REMAINDERS - remainders)
            wanted = -(-pieces // each)
            bins = self.groups[remainders][space]
            if space == self.capacity:
                bins = np.arange(self.count, self.count + wanted)
                self.count += wanted
            taken, kept = bins[:wanted], bins[wanted:]
            self.put(space, remainders, kept)
            spare = max(0, len(taken) * each - pieces)  # the last bin takes this many fewer
            whole = taken[:-1] if spare else taken
            self.add(space - each * size, remainders + each * is_remainder, whole)
            if spare:
                self.add(space - (each - spare) * size, remainders + (each - spare) * is_remainder, taken[-1:])
            placed.append(np.repeat(taken, each)[:pieces])
            pieces -= len(placed[-1])
            if not pieces:
                break
        return np.concatenate(placed)

    def fitting(self, size: int, is_remainder: bool) -> Iterator[tuple[int, int]]:
        """Yield the groups that fit, the least space first. New sequences come last."""
        # A whole document is first put where no more remainder is allowed.
        allowed = range(MAX_REMAINDERS - 1, -1, -1) if is_remainder else range(MAX_REMAINDERS, -1, -1)
        spaces = np.flatnonzero(self.is_used[: len(allowed), size:].any(axis=0)) + size
        for space in spaces.tolist():
            yield from ((space, remainders) for remainders in allowed if self.is_used[remainders, space])
        yield self.capacity, 0

    def put(self, space: int, remainders: int, bins: Integers) -> None:
        """Set the sequences of a group."""
        self.groups[remainders][space] = bins
        self.is_used[remainders, space] = len(bins) > 0

    def add(self, space: int, remainders: int, bins: Integers) -> None:
        """Add sequences to a group, unless they are full."""
        if space and len(bins):
            self.put(space, remainders, np.concatenate((self.groups[remainders][space], bins)))
