"""Which documents share a training sequence, and what that costs in padding and cut documents.

Best-fit packing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", ICML): cut only documents longer than
a sequence, then fill sequences with the pieces, the longest first, each where it leaves the least room. One rule is
added to the paper's: of two pieces that stand side by side, the first ends its document and the second begins one, so
that every token follows its true predecessor (end-of-text, for the first of a document). A cut document leaves one
piece shorter than a sequence, its remainder; so a sequence holds at most two of them, an ending in front and a
beginning at the end, and where a document is cut follows from where its remainder went.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gptctl.core.seeds import derive

Pack = Literal["concat", "bestfit"]
Integers = NDArray[np.int64]
MAX_REMAINDERS = 2  # in one sequence: one at each end


@dataclass(frozen=True)
class Packing:
    """Pieces of documents, sorted by sequence and by place in it; sequence i has those from bounds[i] to bounds[i+1].

    `start` is counted in tokens from the document's first, `length` in tokens.
    """

    document: Integers
    start: Integers
    length: Integers
    bounds: Integers

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return len(self.bounds) - 1


@dataclass(frozen=True)
class Report:
    """What a packing does to one epoch. Shares are between 0 and 1."""

    pack: Pack
    documents: int
    tokens: int
    sequences: int
    seq_len: int
    truncated: int  # documents that the end of a sequence cuts
    padding: float  # share of the sequences' places that carry no target
    unused_tokens: int  # never a target in an epoch
    utilisation: float  # share of the tokens that are a target

    def places(self, targets: int) -> int:
        """Count the places in sequences that hold so many targets, padding included."""
        return -(-targets * self.sequences * self.seq_len // max(1, self.tokens - self.unused_tokens))

    def line(self) -> str:
        """Say it in one line."""
        return (
            f"packing {self.pack}: {self.sequences:,} sequences of {self.seq_len:,} tokens, "
            f"{self.truncated:,} of {self.documents:,} documents cut, "
            f"{self.padding:.2%} padding, {self.utilisation:.2%} of {self.tokens:,} tokens used per epoch"
        )


def report(pack: Pack, lengths: Integers, seq_len: int, seed: int) -> Report:
    """Report on an epoch (concat: the first; its cuts move) over documents of `lengths` tokens.

    concat cuts where its windows of seq_len + 1 tokens end, and leaves a tail shorter than two windows unread.
    """
    tokens = int(lengths.sum())
    if pack == "bestfit":
        sequences, used = best_fit(lengths, seq_len).sequences, tokens
        truncated = int((lengths > seq_len).sum())
    else:
        sequences = window_count(tokens, seq_len)
        used = max(0, min(sequences * seq_len, tokens - 1))
        last = np.cumsum(lengths) - 1 - window_offset(tokens, seq_len, seed, epoch=0)
        first = last - lengths + 1
        truncated = int((last > (first // seq_len + 1) * seq_len).sum())
    return Report(
        pack, len(lengths), tokens, sequences, seq_len, truncated,
        1 - used / max(1, sequences * seq_len), tokens - used, used / max(1, tokens),
    )  # fmt: skip


def window_count(tokens: int, seq_len: int) -> int:
    """Count the windows of a stream: one less than fits, where there are several, so that the start can move."""
    return max(1, (tokens - seq_len) // seq_len)


def window_offset(tokens: int, seq_len: int, seed: int, epoch: int) -> int:
    """Return the token at which an epoch's first window starts, so that the cuts move from epoch to epoch."""
    room = max(0, tokens - 1 - window_count(tokens, seq_len) * seq_len)
    return derive(seed, "offset", epoch) % (min(seq_len - 1, room) + 1)


def best_fit(lengths: Integers, capacity: int) -> Packing:
    """Pack documents of `lengths` tokens into sequences of `capacity`; every token is in exactly one piece.

    A function of its arguments alone: among equal lengths, earlier documents come first. Empty documents have no piece.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    full, remainder = np.divmod(lengths, capacity)
    cut = lengths > capacity
    full[lengths == capacity] = 0
    small = np.flatnonzero(np.where(cut, remainder, lengths))  # documents with a piece that can share a sequence
    sizes = np.where(cut, remainder, lengths)[small]
    bins, count = assign(sizes, cut[small], capacity)

    # The first remainder in a sequence ends its document and stands in front, the second begins one and stands last.
    rest = np.flatnonzero(cut[small])
    rest = rest[np.argsort(bins[rest], kind="stable")]
    begins = rest[1:][bins[rest[1:]] == bins[rest[:-1]]]
    place = np.where(cut[small], 0, 1)
    place[begins] = 2
    start = np.where(cut[small], full[small] * capacity, 0)
    start[begins] = 0

    shift = np.zeros(len(lengths), np.int64)  # of a document's full pieces
    shift[small[begins]] = sizes[begins]
    owner = np.repeat(np.arange(len(lengths)), full)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(full) - full, full)

    order = np.lexsort((place, bins))
    return Packing(
        document=np.concatenate((small[order], owner)),
        start=np.concatenate((start[order], shift[owner] + number * capacity)),
        length=np.concatenate((sizes[order], np.full(len(owner), capacity, np.int64))),
        bounds=np.concatenate((
            np.searchsorted(bins[order], np.arange(count)), len(small) + np.arange(len(owner) + 1)
        )),
    )  # fmt: skip


def assign(sizes: Integers, is_remainder: NDArray[np.bool_], capacity: int) -> tuple[Integers, int]:
    """Give each piece's sequence and the number of sequences: best fit, the longest pieces first.

    All pieces of one size are placed together, on whole shelves of sequences with equal room: the fullest sequence
    that fits stays the fullest until no more fit, so this comes to the same as one by one.
    """
    bins = np.empty(len(sizes), np.int64)
    shelves = Shelves(capacity)
    order = np.lexsort((~is_remainder, -sizes))  # of one size remainders first: fewer places will do for them
    keys = sizes[order] * 2 + is_remainder[order]
    for group in np.split(order, np.flatnonzero(np.diff(keys)) + 1) if len(order) else []:
        bins[group] = shelves.place(len(group), int(sizes[group[0]]), bool(is_remainder[group[0]]))
    return bins, shelves.count


class Shelves:
    """Open sequences, kept by how much room they have and how many remainders they hold."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0  # sequences so far
        self.held: list[list[Integers]] = [[np.empty(0, np.int64)] * (capacity + 1) for _ in range(MAX_REMAINDERS + 1)]
        self.filled = np.zeros((MAX_REMAINDERS + 1, capacity + 1), dtype=bool)

    def place(self, pieces: int, size: int, is_remainder: bool) -> Integers:
        """Return the sequences of so many pieces of one size."""
        placed: list[Integers] = []
        for room, remainders in self.fitting(size, is_remainder):
            each = room // size
            if is_remainder:
                each = min(each, MAX_REMAINDERS - remainders)
            wanted = -(-pieces // each)
            shelf = self.held[remainders][room]
            if room == self.capacity:
                shelf = np.arange(self.count, self.count + wanted)
                self.count += wanted
            taken, kept = shelf[:wanted], shelf[wanted:]
            self.put(room, remainders, kept)
            spare = max(0, len(taken) * each - pieces)  # the last one takes so many less
            whole = taken[:-1] if spare else taken
            self.add(room - each * size, remainders + each * is_remainder, whole)
            if spare:
                self.add(room - (each - spare) * size, remainders + (each - spare) * is_remainder, taken[-1:])
            placed.append(np.repeat(taken, each)[:pieces])
            pieces -= len(placed[-1])
            if not pieces:
                break
        return np.concatenate(placed)

    def fitting(self, size: int, is_remainder: bool) -> Iterator[tuple[int, int]]:
        """Go through the shelves that fit, the least room first; new sequences come last."""
        # A whole document goes first to where no remainder can go any more.
        allowed = range(MAX_REMAINDERS - 1, -1, -1) if is_remainder else range(MAX_REMAINDERS, -1, -1)
        rooms = np.flatnonzero(self.filled[: len(allowed), size:].any(axis=0)) + size
        for room in rooms.tolist():
            yield from ((room, remainders) for remainders in allowed if self.filled[remainders, room])
        yield self.capacity, 0

    def put(self, room: int, remainders: int, bins: Integers) -> None:
        """Set a shelf."""
        self.held[remainders][room] = bins
        self.filled[remainders, room] = len(bins) > 0

    def add(self, room: int, remainders: int, bins: Integers) -> None:
        """Add to a shelf."""
        if room and len(bins):
            self.put(room, remainders, np.concatenate((self.held[remainders][room], bins)))
