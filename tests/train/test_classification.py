"""The classification objective's own promise: how activations are kept changes no bit."""

from __future__ import annotations

import torch

from gptctl.model.classifier import Classifier
from gptctl.train.objectives import classification
from gptctl.train.recipe import Recipe
from tests.model.test_gpt import make


def test_checkpointed_activations_change_no_bit() -> None:
    """Dropout included, with the language-model loss beside."""
    model = Classifier(make("tiny-gpt1"), labels=3).train()
    batch = torch.randint(1, 500, (4, 21), generator=torch.Generator().manual_seed(0))
    batch[:, 0] = torch.tensor([0, 2, 1, 0])
    batch[1, 12:] = -1
    results = []
    for checkpointed in (False, True):
        torch.manual_seed(3)
        total, count = classification.loss(model, batch, Recipe(checkpoint_activations=checkpointed))
        assert count == 4
        results.append([total, *torch.autograd.grad(total, list(model.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
