"""The classification objective's own promise: how activations are kept changes no bit."""

from __future__ import annotations

import torch
from torch import Tensor

from gptctl.model.classifier import Classifier
from gptctl.train.data.batch import Batch
from gptctl.train.objectives.classification import Classification
from gptctl.train.recipe import Recipe
from tests.model.test_gpt import make


def labelled(tokens: Tensor, classes: list[int]) -> Batch:
    """Return a batch of sequences of tokens (B, W, T), padded with -1, and their texts' labels."""
    labels = torch.full_like(tokens, -1)
    labels[..., :-1] = tokens[..., 1:]
    lengths = (tokens != -1).sum(-1)
    return Batch(tokens, labels, sequence_lengths=lengths, class_labels=torch.tensor(classes))


def test_checkpointed_activations_change_no_bit() -> None:
    """Dropout included, with the language-model loss beside."""
    model = Classifier(make("test-gpt1"), labels=3).train()
    tokens = torch.randint(1, 500, (4, 2, 20), generator=torch.Generator().manual_seed(0))
    tokens[1, 0, 11:] = -1
    tokens[2, 1, :] = -1
    batch = labelled(tokens, [0, 2, 1, 0])
    results = []
    for checkpointed in (False, True):
        torch.manual_seed(3)
        total, count, _ = Classification(Recipe(checkpoint_activations=checkpointed)).loss(model, batch)
        assert count == 4
        results.append([total, *torch.autograd.grad(total, list(model.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_texts_tokens_weigh_alike_over_its_sequences() -> None:
    """The language-model loss of a text is the mean over the tokens of all its sequences (L1 of equation 5)."""
    model = Classifier(make("test-gpt1"), labels=3).eval()
    tokens = torch.full((1, 2, 8), -1)
    tokens[0, 0], tokens[0, 1, :3] = torch.arange(10, 18), torch.arange(20, 23)
    plain = Classification(Recipe(lm_weight=0.0)).loss(model, labelled(tokens, [1])).total
    both = Classification(Recipe(lm_weight=0.5)).loss(model, labelled(tokens, [1])).total
    nats = []
    for sequence in (tokens[0, 0], tokens[0, 1, :3]):
        logits = model.gpt(sequence[None, :-1])[0].log_softmax(-1)
        nats += [-logits[place, token] for place, token in enumerate(sequence[1:].tolist())]
    torch.testing.assert_close(both - plain, 0.5 * torch.stack(nats).mean(), rtol=1e-4, atol=1e-5)


def test_weights_of_labels() -> None:
    """Each text's cross-entropy times the weight of its label; the count stays that of texts."""
    model = Classifier(make("test-gpt1"), labels=3).eval()
    batch = labelled(torch.randint(1, 500, (3, 1, 8), generator=torch.Generator().manual_seed(0)), [0, 1, 2])
    alone, weighted = Recipe(lm_weight=0.0), Recipe(lm_weight=0.0, label_weights=(2.0, 0.5, 0.0))
    each = [Classification(alone).loss(model, batch.select(torch.tensor([row]))).total for row in range(3)]
    total, count, _ = Classification(weighted).loss(model, batch)
    assert count == 3
    torch.testing.assert_close(total, 2 * each[0] + 0.5 * each[1], rtol=1e-4, atol=1e-5)
