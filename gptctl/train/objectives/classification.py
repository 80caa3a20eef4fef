"""Predict a text's label, with the language-model loss beside it (Radford et al. 2018, GPT-1, equations 4 and 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.classifier import Classifier
from gptctl.model.cross_entropy import IGNORE_INDEX, cross_entropy_sum
from gptctl.train.recipe import Recipe

UNIT = "texts"  # what its targets are


def loss(model: nn.Module, batch: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Return the summed loss and the number of texts in a batch (B, W, 1 + T), see `split`.

    Each text's loss is its label's cross-entropy, times the label's weight, plus lm_weight times the mean over its
    tokens (L3 = L2 + lambda L1).
    """
    assert isinstance(model, Classifier)
    labels, tokens, lengths = split(batch)
    logits, hidden = model(tokens.clamp(min=0), lengths, recipe.checkpoint_activations)
    weights = torch.tensor(recipe.label_weights, device=logits.device) if recipe.label_weights else None
    total, count = cross_entropy_sum(logits, labels, label_smoothing=recipe.label_smoothing, weights=weights)
    if recipe.lm_weight:
        there = lengths > 0
        targets = tokens[there][:, 1:]  # (N, T - 1)
        each = F.cross_entropy(
            model.gpt.logits(hidden[:, :-1]).float().flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORE_INDEX,
            reduction="none",
        )
        sums = each.view(targets.shape).sum(1)
        owner = there.nonzero()[:, 0]
        of_text = (lengths - 1).clamp(min=0).sum(1).clamp(min=1)  # (B,)
        total = total + recipe.lm_weight * (sums / of_text[owner]).sum()
    return total, count


def blank(model: nn.Module) -> Tensor:
    """Return the tally of nothing."""
    assert isinstance(model, Classifier)
    return torch.zeros(2 + model.labels**2, dtype=torch.float64)


def tally(model: nn.Module, batch: Tensor, recipe: Recipe) -> Tensor:
    """Return loss, count and the confusion counts [true, predicted], flattened: (2 + L * L,) float64 on the CPU."""
    assert isinstance(model, Classifier)
    labels, tokens, lengths = split(batch)
    logits, _ = model(tokens.clamp(min=0), lengths)
    total, count = cross_entropy_sum(logits, labels)
    cells = labels * model.labels + logits.argmax(-1)
    confusion = torch.bincount(cells.cpu(), minlength=model.labels**2).double()
    return torch.cat((torch.tensor((total.item(), count.item()), dtype=torch.float64), confusion))


def metrics(tallied: Tensor) -> dict[str, float]:
    """Return the mean loss, accuracy and macro F1 over labels that occur as truth or prediction."""
    total, count = tallied[:2].tolist()
    labels = round((tallied.numel() - 2) ** 0.5)
    confusion = tallied[2:].view(labels, labels)
    right, sizes = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
    f1 = 2 * right[sizes > 0] / sizes[sizes > 0]
    return {"loss": total / count, "accuracy": right.sum().item() / count, "f1": f1.mean().item()}


def split(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return labels (B,), tokens (B, W, T) with -1 after the end, and lengths (B, W), of a batch (B, W, 1 + T).

    A text's sequences stand one below the other, each after the text's label; -1 fills up.
    """
    tokens = batch[..., 1:]
    return batch[:, 0, 0], tokens, (tokens != IGNORE_INDEX).sum(-1)
