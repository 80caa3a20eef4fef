"""Windows over a stream of tokens: a pure function of seed and index, whatever the parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.train.data.token_windows import TokenWindows
from tests.train.jobs import windows_of


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
            assert batch.input_ids.shape[1] == batch.labels.shape[1] == seq_len
            assert len(batch) <= batch_size
            inputs, targets = batch.input_ids, batch.labels
            pairs += list(zip(inputs[targets >= 0].tolist(), targets[targets >= 0].tolist(), strict=True))
    assert sorted(pairs) == [(i, i + 1) for i in range(len(stream) - 1)]


@given(st.integers(0, 200), st.integers(1, 30), st.integers(0, 3))
def test_batches_do_not_depend_on_how_they_are_cut(first: int, count: int, seed: int) -> None:
    """One at a time or together, from one array or five, across epochs."""
    stream = np.random.default_rng(0).integers(0, 500, 700).astype(np.uint32)
    whole = TokenWindows([stream], 16, seed)
    parts = TokenWindows(np.split(stream, [3, 100, 100, 650]), 16, seed)
    together = windows_of(whole.batch(first, count))
    assert torch.equal(together, torch.cat([windows_of(parts.batch(first + i, 1)) for i in range(count)]))
    assert together.dtype == torch.int64


def test_an_epoch_sees_every_window_once_and_the_next_cuts_elsewhere() -> None:
    """Starts are one stride apart within an epoch; the offset moves between epochs."""
    windows = TokenWindows([np.arange(10_000, dtype=np.uint16)], 64, seed=3)
    size = windows.samples_per_epoch
    starts = [sorted(windows.batch(epoch * size, size).input_ids[:, 0].tolist()) for epoch in range(3)]
    for found in starts:
        assert np.diff(found).tolist() == [64] * (size - 1)
    assert len({found[0] for found in starts}) == 3
    assert windows.batch(0, size).input_ids[:, 0].tolist() != starts[0]
    other = TokenWindows([np.arange(10_000, dtype=np.uint16)], 64, seed=4)
    assert not torch.equal(windows.batch(0, size).input_ids, other.batch(0, size).input_ids)


@pytest.mark.parametrize("tokens", range(2, 40))
def test_short_streams(tokens: int) -> None:
    """From two tokens on there is something to learn, and no window reaches past the end."""
    windows = TokenWindows([np.arange(tokens, dtype=np.uint16)], 16, seed=0)
    batch = windows_of(windows.batch(0, 20))
    counts = (batch >= 0).sum(1)
    assert counts.min() == min(17, tokens)
    assert batch.max() < tokens


def test_too_few_tokens() -> None:
    """Nothing can be predicted from one token."""
    with pytest.raises(DataError, match="1 tokens"):
        TokenWindows([np.zeros(0, np.uint16), np.ones(1, np.uint16)], 16, seed=0)
