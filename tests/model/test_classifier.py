"""What a classifier reads of hidden states."""

from __future__ import annotations

import pytest
import torch

from gptctl.model.classifier import Classifier, Pooling
from tests.model.test_gpt import make

POOLINGS: tuple[Pooling, ...] = ("last", "mean", "max", "concat")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three texts of 2, 1 and 2 sequences."""
    lengths = torch.tensor([[5, 9], [12, 0], [1, 3]])
    tokens = torch.randint(3, 400, (3, 2, 12), generator=torch.Generator().manual_seed(0))
    return tokens, lengths


@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_pooling_by_its_definition(pooling: Pooling) -> None:
    """Each text as computed alone from its own hidden states, without padding; sequences are averaged."""
    model = Classifier(make("test-gpt2"), 3, pooling=pooling).eval()
    tokens, lengths = batch()
    logits, hidden = model(tokens, lengths)
    assert hidden.shape == (5, 12, model.config.hidden_size)
    for row in range(3):
        pooled = []
        for sequence, length in zip(tokens[row], lengths[row].tolist(), strict=True):
            if length:
                states = model.gpt.hidden_states(sequence[None, :length])[0]
                parts = {"last": states[-1], "mean": states.mean(0), "max": states.amax(0)}
                parts["concat"] = torch.cat([parts["last"], parts["mean"], parts["max"]])
                pooled.append(parts[pooling])
        wanted = model.label_head(torch.stack(pooled).mean(0))
        torch.testing.assert_close(logits[row], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_padding_gets_no_gradient(pooling: Pooling) -> None:
    model = Classifier(make("test-gpt2"), 3, pooling=pooling, dropout=0.0).eval()
    tokens, lengths = batch()
    model.gpt.embedding.weight.grad = None
    unused = 450
    tokens[1, 1], tokens[0, 0, 5:], tokens[2, 0, 1:] = unused, unused, unused
    logits, _ = model(tokens, lengths)
    logits.square().sum().backward()
    grad = model.gpt.embedding.weight.grad
    assert grad is not None
    assert grad[unused].abs().max() == 0
    assert grad[tokens[1, 0, 0]].abs().max() > 0
