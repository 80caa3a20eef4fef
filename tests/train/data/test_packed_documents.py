"""Packed documents: every token is a label once an epoch, after its true predecessor."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError
from gptctl.train.data.packed_documents import PackedDocuments
from gptctl.train.data.token_windows import TokenWindows
from tests.train.jobs import windows_of

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
    inputs, targets = batch.model_inputs(), batch.labels
    pairs = zip(inputs[targets >= 0].tolist(), targets[targets >= 0].tolist(), strict=True)
    expected = [pair for document in documents for pair in pairwise([END, *document])]
    assert Counter(pairs) == Counter(expected)
    assert (batch.input_ids[:, 0] >= 0).all()


@given(st.integers(0, 200), st.integers(1, 30), st.integers(0, 3))
def test_packed_batches_do_not_depend_on_how_they_are_cut(first: int, count: int, seed: int) -> None:
    """As for windows: one at a time or together, from one array or five, across epochs."""
    lengths = np.random.default_rng(1).integers(0, 70, 40).tolist()
    whole, _ = packed(lengths, 16, seed)
    parts, _ = packed(lengths, 16, seed, cuts=(3, 100, 100, 650))
    together = windows_of(whole.batch(first, count))
    assert torch.equal(together, torch.cat([windows_of(parts.batch(first + i, 1)) for i in range(count)]))
    assert (together.shape, together.dtype) == ((count, 17), torch.int64)


def test_packed_epochs_differ_in_order_alone() -> None:
    """The same sequences come in another order, and by another seed in yet another."""
    lengths = np.random.default_rng(2).integers(1, 200, 300).tolist()
    data, _ = packed(lengths, 64, seed=3)
    size = data.samples_per_epoch
    epochs = [windows_of(data.batch(epoch * size, size)) for epoch in range(2)]
    assert not torch.equal(*epochs)
    assert sorted(epochs[0].tolist()) == sorted(epochs[1].tolist())
    assert not torch.equal(windows_of(packed(lengths, 64, seed=4)[0].batch(0, size)), epochs[0])


def test_packed_documents_are_scored_as_the_stream() -> None:
    """So that a loss does not depend on the packing."""
    lengths = [5, 40, 1, 17]
    data, documents = packed(lengths, 8)
    stream = TokenWindows([np.concatenate(documents).astype(np.uint32)], 8, seed=0)
    pairs = zip(data.sequential(3), stream.sequential(3), strict=True)
    assert all(torch.equal(windows_of(one), windows_of(other)) for one, other in pairs)


def test_lengths_of_other_documents_are_refused() -> None:
    """They would cut the stream in the wrong places."""
    with pytest.raises(DataError, match="have 9 tokens, the split itself 10"):
        PackedDocuments([np.arange(10, dtype=np.uint32)], np.array([4, 5], np.int64), 4, 0, END)
