"""Packing: nothing lost, nothing too long, no document cut that need not be, and close to the fewest sequences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.text.packing import (
    MAX_REMAINDERS,
    Packing,
    best_fit,
    best_fit_report,
    concat_report,
    window_count,
)

lengths_and_capacity = st.tuples(st.lists(st.integers(0, 70), max_size=60), st.integers(1, 30))
Piece = tuple[int, int, int]  # document, start, length


def sequences(packing: Packing) -> list[list[Piece]]:
    """List the pieces of each sequence."""
    pieces = list(zip(packing.document.tolist(), packing.start.tolist(), packing.length.tolist(), strict=True))
    return [pieces[first:end] for first, end in pairwise(packing.bounds.tolist())]


@given(lengths_and_capacity)
def test_every_token_is_in_one_piece_and_only_long_documents_are_cut(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    packed = sequences(best_fit(np.array(lengths, np.int64), capacity))
    found: dict[int, list[tuple[int, int]]] = {}
    for document, start, length in sorted(piece for pieces in packed for piece in pieces):
        found.setdefault(document, []).append((start, length))
    for document, length in enumerate(lengths):
        ends = [0, *np.cumsum([piece[1] for piece in found.get(document, [])]).tolist()]
        assert [piece[0] for piece in found.get(document, [])] == ends[:-1]
        assert ends[-1] == length
        assert len(ends) - 1 == -(-length // capacity)


@given(lengths_and_capacity)
def test_no_sequence_is_over_full_or_empty_and_neighbours_meet_at_ends(case: tuple[list[int], int]) -> None:
    """Of two pieces side by side, the first ends its document and the second begins one."""
    lengths, capacity = case
    for pieces in sequences(best_fit(np.array(lengths, np.int64), capacity)):
        assert 0 < sum(length for _, _, length in pieces) <= capacity
        for (document, start, length), (_, begin, _) in pairwise(pieces):
            assert start + length == lengths[document]
            assert begin == 0


@given(lengths_and_capacity)
def test_the_same_as_placing_one_by_one(case: tuple[list[int], int]) -> None:
    """Best fit decreasing as it is usually told: each piece where it leaves the least room."""
    lengths, capacity = case
    pieces = [(length % capacity, True) for length in lengths if length > capacity and length % capacity]
    pieces += [(length, False) for length in lengths if 0 < length <= capacity]
    bins: list[tuple[int, int]] = []  # room left, how many remainders
    for size, remainder in sorted(pieces, reverse=True):
        fitting = [
            (room, -held, number)
            for number, (room, held) in enumerate(bins)
            if room >= size and held + remainder <= MAX_REMAINDERS
        ]
        if not fitting:
            bins.append((capacity, 0))
            fitting = [(capacity, 0, len(bins) - 1)]
        room, held, number = min(fitting)
        bins[number] = (room - size, remainder - held)
    full = sum(length // capacity for length in lengths if length > capacity)
    packing = best_fit(np.array(lengths, np.int64), capacity)
    filled = [sum(length for _, _, length in pieces) for pieces in sequences(packing)]
    assert sorted(filled) == sorted([capacity - room for room, _ in bins] + [capacity] * full)


@given(lengths_and_capacity)
def test_the_same_every_time(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    one, other = (best_fit(np.array(lengths, np.int64), capacity) for _ in range(2))
    assert sequences(one) == sequences(other)


def test_the_example_of_the_paper() -> None:
    """Ding et al. 2024, figure 1: documents of 14, 7, 5, 2 and 3 tokens in sequences of 8, one document cut."""
    lengths = np.array([14, 7, 5, 2, 3])
    packed = sequences(best_fit(lengths, 8))
    assert sorted(packed) == [[(0, 0, 8)], [(0, 8, 6), (3, 0, 2)], [(1, 0, 7)], [(2, 0, 5), (4, 0, 3)]]
    figures = best_fit_report(lengths, 8)
    assert (figures.sequences, figures.truncated, figures.unused_tokens) == (4, 1, 0)
    assert (figures.padding, figures.utilisation) == (1 / 32, 1.0)
    assert figures.positions(31) == 32


def paragraphs() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the lengths in bytes of the paragraphs of Python's language reference."""
    from pydoc_data.topics import topics

    return np.array([len(part.encode()) for name in sorted(topics) for part in topics[name].split("\n\n")])


@pytest.mark.parametrize("capacity", [64, 256, 1024, 4096])
def test_real_lengths_come_within_a_percent_of_the_fewest_sequences(capacity: int) -> None:
    """No packing has less than sum / capacity."""
    lengths = paragraphs()
    fewest = -(-int(lengths.sum()) // capacity)
    figures = best_fit_report(lengths, capacity)
    assert fewest <= figures.sequences <= 1.01 * fewest
    assert figures.truncated == (lengths > capacity).sum()


def test_a_million_documents_leave_hardly_any_room() -> None:
    """Which takes 0.3 s on one core of an EPYC at 1024, 0.5 s at 131072, and would take days if all pairs were tried."""
    lengths = np.random.default_rng(0).lognormal(6, 1.2, 1_000_000).astype(np.int64) + 1
    for capacity in (1024, 131_072):
        assert best_fit(lengths, capacity).sequences <= 1.001 * lengths.sum() / capacity


@given(st.integers(0, 600), st.integers(1, 20))
def test_concat_uses_all_but_the_end_of_the_stream(tokens: int, seq_len: int) -> None:
    figures = concat_report(7, tokens, seq_len)
    targets = min(window_count(tokens, seq_len) * seq_len, max(tokens - 1, 0))
    assert figures.unused_tokens == tokens - targets
    assert figures.utilisation == pytest.approx(targets / tokens if tokens else 0)
    assert (figures.documents, figures.truncated) == (7, None)
    assert "truncated" not in figures.summary()


def test_reports_of_nothing() -> None:
    nothing = best_fit_report(np.empty(0, np.int64), 8)
    assert (nothing.tokens, nothing.truncated, nothing.utilisation) == (0, 0, 0)
    assert "0 documents truncated" in nothing.summary()
