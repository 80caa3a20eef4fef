"""Predict a text's label, with a language-model loss beside it (Radford et al. 2018, GPT-1, equations 4 and 5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.model.classifier import Classifier
from gptctl.model.cross_entropy import IGNORE_INDEX, cross_entropy_sum
from gptctl.model.device import to_double
from gptctl.train.data.batch import Batch
from gptctl.train.job import Model, TrainJob
from gptctl.train.objectives import SummedLoss
from gptctl.train.recipe import Recipe
from gptctl.train.strategies import Strategy


def build(job: TrainJob) -> Classification:
    """Return the objective of a run."""
    return Classification(job.recipe)


class Classification:
    """Cross-entropy of each text's label, times the label's weight, plus lm_weight times the mean over its tokens.

    That is L3 = L2 + lambda L1.
    """

    unit = "texts"
    step_metrics: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def prepare(self, strategy: Strategy, precision: str, compiled: bool) -> None:
        """Do nothing: the objective holds no model."""

    def loss(self, model: Model, batch: Batch) -> SummedLoss:
        """Return the loss of a batch; its targets are the texts."""
        recipe = self.recipe
        assert isinstance(model, Classifier)
        assert batch.class_labels is not None
        assert batch.sequence_lengths is not None
        logits, hidden = model(batch.model_inputs(), batch.sequence_lengths, recipe.checkpoint_activations)
        weights = torch.tensor(recipe.label_weights, device=logits.device) if recipe.label_weights else None
        total, count = cross_entropy_sum(
            logits, batch.class_labels, label_smoothing=recipe.label_smoothing, weights=weights
        )
        if recipe.lm_weight:
            total = total + recipe.lm_weight * language_model_loss(model, batch, hidden, batch.sequence_lengths)
        return SummedLoss(total, count)

    def init_metrics(self, model: Model) -> Tensor:
        """Return a loss, a count and confusion counts of zero, (2 + L * L,) float64 for L labels."""
        assert isinstance(model, Classifier)
        return torch.zeros(2 + model.labels**2, dtype=torch.float64)

    def batch_metrics(self, model: Model, batch: Batch) -> Tensor:
        """Return loss, count and the confusion counts [true, predicted], flat: (2 + L * L,) float64 on its device."""
        assert isinstance(model, Classifier)
        assert batch.class_labels is not None
        logits, _ = model(batch.model_inputs(), batch.sequence_lengths)
        total, count = cross_entropy_sum(logits, batch.class_labels)
        cells = batch.class_labels * model.labels + logits.argmax(-1)
        ones = to_double(torch.ones_like(cells))
        confusion = ones.new_zeros(model.labels**2).index_add_(0, cells, ones)
        return torch.cat((torch.stack((to_double(total), to_double(count))), confusion))

    def compute_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the mean loss, accuracy, and macro F1 over the labels that occur as truth or prediction."""
        total, count = sums[:2].tolist()
        labels = round((sums.numel() - 2) ** 0.5)
        confusion = sums[2:].view(labels, labels)
        right, sizes = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
        f1 = 2 * right[sizes > 0] / sizes[sizes > 0]
        return {"loss": total / count, "accuracy": right.sum().item() / count, "f1": f1.mean().item()}


def language_model_loss(model: Classifier, batch: Batch, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return the sum over texts of the mean loss of each text's tokens.

    hidden (N, T, C): the states of the N sequences that are not empty. lengths (B, W): the tokens of all sequences.
    """
    present = lengths > 0
    targets = batch.labels[present][:, :-1]  # (N, T - 1)
    text_of_sequence = present.nonzero()[:, 0]
    targets_of_text = (lengths - 1).clamp(min=0).sum(1).clamp(min=1)  # (B,)
    if model.gpt.vocab_shard:
        weights = 1 / targets_of_text[text_of_sequence, None].expand_as(targets)
        return model.gpt.cross_entropy(hidden[:, :-1], targets, weights=weights)
    each = F.cross_entropy(
        model.gpt.logits(hidden[:, :-1]).float().flatten(0, 1),
        targets.flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="none",
    )
    sums = each.view(targets.shape).sum(1)
    return (sums / targets_of_text[text_of_sequence]).sum()
