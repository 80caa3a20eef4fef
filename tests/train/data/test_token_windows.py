"""Windows over a stream of tokens: a pure function of seed and index, whatever the parts."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.train.data.token_windows import PackedDocuments, TokenWindows, permute


@given(st.integers(1, 3000), st.integers(0, 2**62))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    """Every index comes once, and where one goes does not depend on who else is asked."""
    order = permute(np.arange(size), size, key)
    assert sorted(order.tolist()) == list(range(size))
    assert permute(np.array([size - 1]), size, key)[0] == order[-1]


def test_permute_mixes() -> None:
    """Neighbours do not stay neighbours, another key gives another order."""
    order, other = permute(np.arange(5000), 5000, 1), permute(np.arange(5000), 5000, 2)
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01
    assert (order == other).mean() < 0.01
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) >= 2),
    st.integers(1, 20),
    st.integers(1, 7),
    st.integers(1, 3),
)
def test_sequential_predicts_each_token_once(sizes: list[int], seq_len: int, batch_size: int, ranks: int) -> None:
    """Whatever the parts, windows, batches and readers."""
    stream = np.arange(sum(sizes), dtype=np.uint16)
    parts = np.split(stream, np.cumsum(sizes)[:-1])
    windows = TokenWindows(parts, seq_len, seed=0)
    pairs = []
    for rank in range(ranks):
        for batch in windows.sequential(batch_size, rank, ranks):
            assert batch.shape[1] == seq_len + 1
            assert batch.shape[0] <= batch_size
            inputs, targets = batch[:, :-1], batch[:, 1:]
            pairs += list(zip(inputs[targets >= 0].tolist(), targets[targets >= 0].tolist(), strict=True))
    assert sorted(pairs) == [(i, i + 1) for i in range(len(stream) - 1)]


@given(st.integers(0, 200), st.integers(1, 30), st.integers(0, 3))
def test_batches_do_not_depend_on_how_they_are_cut(first: int, count: int, seed: int) -> None:
    """One at a time or together, from one array or five, across epochs."""
    stream = np.random.default_rng(0).integers(0, 500, 700).astype(np.uint32)
    whole = TokenWindows([stream], 16, seed)
    parts = TokenWindows(np.split(stream, [3, 100, 100, 650]), 16, seed)
    together = whole.batch(first, count)
    assert torch.equal(together, torch.cat([parts.batch(first + i, 1) for i in range(count)]))
    assert together.dtype == torch.int64


def test_an_epoch_sees_every_window_once_and_the_next_cuts_elsewhere() -> None:
    """Starts are one stride apart within an epoch; the offset moves between epochs."""
    windows = TokenWindows([np.arange(10_000, dtype=np.uint16)], 64, seed=3)
    size = windows.samples_per_epoch
    starts = [sorted(windows.batch(epoch * size, size)[:, 0].tolist()) for epoch in range(3)]
    for found in starts:
        assert np.diff(found).tolist() == [64] * (size - 1)
    assert len({found[0] for found in starts}) == 3
    assert windows.batch(0, size)[:, 0].tolist() != starts[0]
    other = TokenWindows([np.arange(10_000, dtype=np.uint16)], 64, seed=4)
    assert not torch.equal(windows.batch(0, size), other.batch(0, size))


@pytest.mark.parametrize("tokens", range(2, 40))
def test_short_streams(tokens: int) -> None:
    """From two tokens on there is something to learn, and no window reaches past the end."""
    windows = TokenWindows([np.arange(tokens, dtype=np.uint16)], 16, seed=0)
    batch = windows.batch(0, 20)
    counts = (batch >= 0).sum(1)
    assert counts.min() == min(17, tokens)
    assert batch.max() < tokens


def test_too_few_tokens() -> None:
    """Nothing can be predicted from one token."""
    with pytest.raises(DataError, match="1 tokens"):
        TokenWindows([np.zeros(0, np.uint16), np.ones(1, np.uint16)], 16, seed=0)


END = 0  # end-of-text in the packed streams below, in which every other token is unique


def packed(
    lengths: list[int], seq_len: int, seed: int = 0, cuts: tuple[int, ...] = ()
) -> tuple[PackedDocuments, list[list[int]]]:
    """Pack documents of some lengths, each closed by END; give them too."""
    stream = np.arange(1, sum(lengths) + 1, dtype=np.uint32)
    ends = np.cumsum(lengths)
    stream[ends[np.array(lengths) > 0] - 1] = END
    parts = np.split(stream, [cut for cut in cuts if cut < len(stream)])
    documents = [part.tolist() for part in np.split(stream, ends[:-1])]
    return PackedDocuments(parts, np.array(lengths, np.int64), seq_len, seed, END), documents


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=40).filter(lambda lengths: sum(lengths) >= 2),
    st.integers(1, 24),
    st.integers(0, 3),
)
def test_packed_tokens_are_each_a_target_once_an_epoch_after_their_predecessor(
    lengths: list[int], seq_len: int, epoch: int
) -> None:
    """Documents cut or whole, alone or beside others: what precedes a document's first token is end-of-text."""
    data, documents = packed(lengths, seq_len)
    size = data.samples_per_epoch
    batch = data.batch(epoch * size, size)
    inputs, targets = batch[:, :-1].clamp(min=0), batch[:, 1:]
    pairs = zip(inputs[targets >= 0].tolist(), targets[targets >= 0].tolist(), strict=True)
    expected = [pair for document in documents for pair in pairwise([END, *document])]
    assert Counter(pairs) == Counter(expected)
    assert (batch[:, 0] >= 0).all()


@given(st.integers(0, 200), st.integers(1, 30), st.integers(0, 3))
def test_packed_batches_do_not_depend_on_how_they_are_cut(first: int, count: int, seed: int) -> None:
    """As for windows: one at a time or together, from one array or five, across epochs."""
    lengths = np.random.default_rng(1).integers(0, 70, 40).tolist()
    whole, _ = packed(lengths, 16, seed)
    parts, _ = packed(lengths, 16, seed, cuts=(3, 100, 100, 650))
    together = whole.batch(first, count)
    assert torch.equal(together, torch.cat([parts.batch(first + i, 1) for i in range(count)]))
    assert (together.shape, together.dtype) == ((count, 17), torch.int64)


def test_packed_epochs_differ_in_order_alone() -> None:
    """The same sequences come in another order, and by another seed in yet another."""
    lengths = np.random.default_rng(2).integers(1, 200, 300).tolist()
    data, _ = packed(lengths, 64, seed=3)
    size = data.samples_per_epoch
    epochs = [data.batch(epoch * size, size) for epoch in range(2)]
    assert not torch.equal(*epochs)
    assert sorted(epochs[0].tolist()) == sorted(epochs[1].tolist())
    assert not torch.equal(packed(lengths, 64, seed=4)[0].batch(0, size), epochs[0])


def test_packed_documents_are_scored_as_the_stream() -> None:
    """So that a loss does not depend on the packing."""
    lengths = [5, 40, 1, 17]
    data, documents = packed(lengths, 8)
    stream = TokenWindows([np.concatenate(documents).astype(np.uint32)], 8, seed=0)
    assert torch.equal(torch.cat(list(data.sequential(3))), torch.cat(list(stream.sequential(3))))


def test_lengths_of_other_documents_are_refused() -> None:
    """They would cut the stream in the wrong places."""
    with pytest.raises(DataError, match="have 9 tokens, the split itself 10"):
        PackedDocuments([np.arange(10, dtype=np.uint32)], np.array([4, 5], np.int64), 4, 0, END)
