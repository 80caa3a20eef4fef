"""Packed conversations: nothing is cut, none sees another, and the loss is that of each alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gptctl.core.errors import DataError
from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.train.data.batch import Batch
from gptctl.train.data.conversations import Conversations
from gptctl.train.objectives.language_model import LanguageModeling
from gptctl.train.recipe import Recipe
from tests.model.test_gpt import make

SEQ_LEN = 24


def talks(count: int = 13) -> tuple[list[np.ndarray], list[np.ndarray]]:
    draw = np.random.default_rng(0)
    tokens = [draw.integers(3, 400, size=draw.integers(2, SEQ_LEN + 2)) for _ in range(count)]
    learned = [draw.random(len(each)) < 0.5 for each in tokens]
    for each in learned:
        each[0], each[-1] = False, True
    return tokens, learned


@pytest.mark.parametrize("name", ["test-gpt2", "test-modern", "test-gpt3"])
def test_packed_is_as_one_by_one(name: str) -> None:
    """The summed loss and its gradient, within rounding; what is not learned cannot change it."""
    model, (tokens, learned) = make(name).train(), talks()
    packed = Conversations(tokens, learned, SEQ_LEN, seed=0)
    assert packed.samples_per_epoch < len(tokens)
    objective = LanguageModeling(Recipe())
    together, count, _ = objective.loss(model, next(packed.sequential(100)))
    alone = torch.zeros(())
    for each, mask in zip(tokens, learned, strict=True):
        batch = torch.from_numpy(each)[None]
        targets = torch.where(torch.from_numpy(mask), batch, IGNORE_INDEX)
        total = objective.loss(model, Batch(batch[:, :-1], targets[:, 1:], torch.zeros_like(batch[:, 1:]))).total
        alone = alone + total
    assert count == sum(mask[1:].sum() for mask in learned)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(together, parameters), torch.autograd.grad(alone, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_every_conversation_is_whole_and_once_an_epoch() -> None:
    tokens, learned = talks(40)
    data = Conversations(tokens, learned, SEQ_LEN, seed=3)
    rows = data.batch(0, data.samples_per_epoch)
    assert {tensor.shape[1] for tensor in rows.tensors().values()} == {SEQ_LEN}
    assert rows.document_starts is not None
    found = []
    for inputs, targets, starts in zip(rows.input_ids, rows.labels, rows.document_starts, strict=True):
        for start in starts[inputs != IGNORE_INDEX].unique().tolist():
            inside = (starts == start) & (inputs != IGNORE_INDEX)
            found.append((inputs[inside].tolist(), targets[inside].tolist()))
    wanted = [
        (each[:-1].tolist(), np.where(mask[1:], each[1:], IGNORE_INDEX).tolist())
        for each, mask in zip(tokens, learned, strict=True)
    ]
    assert sorted(found) == sorted(wanted)
    second = data.batch(data.samples_per_epoch, data.samples_per_epoch)
    assert not torch.equal(rows.input_ids, second.input_ids)
    assert listed(rows) == listed(second)
    readers = [batch for rank in range(2) for batch in data.sequential(7, rank, 2)]
    assert sum(batch.input_ids.sum() for batch in readers) == rows.input_ids.sum()


def listed(batch: Batch) -> list[str]:
    """Return the rows of a batch, sorted."""
    return sorted(str([tensor[row].tolist() for tensor in batch.tensors().values()]) for row in range(len(batch)))


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DataError, match="val split is empty"):
        Conversations([], [], SEQ_LEN, 0, "val")
