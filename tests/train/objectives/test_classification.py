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
    batch = torch.randint(1, 500, (4, 2, 21), generator=torch.Generator().manual_seed(0))
    batch[:, :, 0] = torch.tensor([0, 2, 1, 0])[:, None]
    batch[1, 0, 12:] = -1
    batch[2, 1, 1:] = -1
    results = []
    for checkpointed in (False, True):
        torch.manual_seed(3)
        total, count = classification.loss(model, batch, Recipe(checkpoint_activations=checkpointed))
        assert count == 4
        results.append([total, *torch.autograd.grad(total, list(model.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_texts_tokens_weigh_alike_over_its_sequences() -> None:
    """The language-model loss of a text is the mean over the tokens of all its sequences (L1 of equation 5)."""
    model = Classifier(make("tiny-gpt1"), labels=3).eval()
    batch = torch.full((1, 2, 9), -1)
    batch[0, :, 0] = 1
    batch[0, 0, 1:], batch[0, 1, 1:4] = torch.arange(10, 18), torch.arange(20, 23)
    plain, _ = classification.loss(model, batch, Recipe(lm_weight=0.0))
    both, _ = classification.loss(model, batch, Recipe(lm_weight=0.5))
    nats = []
    for sequence in (batch[0, 0, 1:], batch[0, 1, 1:4]):
        logits = model.gpt(sequence[None, :-1])[0].log_softmax(-1)
        nats += [-logits[place, token] for place, token in enumerate(sequence[1:].tolist())]
    torch.testing.assert_close(both - plain, 0.5 * torch.stack(nats).mean(), rtol=1e-4, atol=1e-5)


def test_weights_of_labels() -> None:
    """Each text's cross-entropy times the weight of its label; the count stays that of texts."""
    model = Classifier(make("tiny-gpt1"), labels=3).eval()
    batch = torch.randint(1, 500, (3, 1, 9), generator=torch.Generator().manual_seed(0))
    batch[:, 0, 0] = torch.tensor([0, 1, 2])
    each = [classification.loss(model, batch[row : row + 1], Recipe(lm_weight=0.0))[0] for row in range(3)]
    total, count = classification.loss(model, batch, Recipe(lm_weight=0.0, label_weights=(2.0, 0.5, 0.0)))
    assert count == 3
    torch.testing.assert_close(total, 2 * each[0] + 0.5 * each[1], rtol=1e-4, atol=1e-5)
