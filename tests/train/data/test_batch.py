"""Batches: named tensors that move, select and join together."""

from __future__ import annotations

import torch

from gptctl.train.data.batch import Batch, concatenate


def test_all_tensors_of_a_batch_go_along() -> None:
    """Fields that a batch lacks stay None."""
    batch = Batch.from_windows(torch.arange(12).view(3, 4))
    assert len(batch) == 3
    assert batch.input_ids.tolist() == [[0, 1, 2], [4, 5, 6], [8, 9, 10]]
    assert batch.labels.tolist() == [[1, 2, 3], [5, 6, 7], [9, 10, 11]]
    chosen = batch.select(torch.tensor([2, 0])).to(torch.device("cpu"))
    assert (chosen.input_ids.tolist(), chosen.labels.tolist()) == ([[8, 9, 10], [0, 1, 2]], [[9, 10, 11], [1, 2, 3]])
    assert chosen.class_labels is chosen.document_starts is chosen.sequence_lengths is None
    assert Batch(torch.tensor([[5, -1]]), torch.tensor([[-1, -1]])).model_inputs().tolist() == [[5, 0]]


def test_joined_batches_are_padded() -> None:
    """Rows of unequal length: padding predicts nothing and attends to itself alone; missing sequences are empty."""
    short = Batch(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]), torch.tensor([[0, 0]]))
    long = Batch(torch.tensor([[4, 5, 6]]), torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 1]]))
    joined = concatenate([short, long])
    assert joined.input_ids.tolist() == [[1, 2, -1], [4, 5, 6]]
    assert joined.labels.tolist() == [[2, 3, -1], [5, 6, 7]]
    assert joined.document_starts is not None
    assert joined.document_starts.tolist() == [[0, 0, 2], [0, 1, 1]]
    one = Batch(torch.ones(1, 1, 2).long(), torch.ones(1, 1, 2).long(), None, torch.tensor([[2]]), torch.tensor([3]))
    two = Batch(torch.ones(1, 2, 1).long(), torch.ones(1, 2, 1).long(), None, torch.tensor([[1, 1]]), torch.tensor([4]))
    joined = concatenate([one, two])
    assert joined.input_ids.tolist() == [[[1, 1], [-1, -1]], [[1, -1], [1, -1]]]
    assert joined.sequence_lengths is not None
    assert joined.class_labels is not None
    assert (joined.sequence_lengths.tolist(), joined.class_labels.tolist()) == ([[2, 0], [1, 1]], [3, 4])
