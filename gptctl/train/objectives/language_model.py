"""Predict the next token."""

from __future__ import annotations

import torch
from torch import Tensor

from gptctl.core.errors import UsageError
from gptctl.model.device import to_double
from gptctl.model.gpt import GPT, LossSums, find_document_starts
from gptctl.train.data.batch import Batch
from gptctl.train.job import Model, TrainJob
from gptctl.train.objectives import SummedLoss
from gptctl.train.recipe import Recipe
from gptctl.train.strategies import Strategy


def build(job: TrainJob) -> LanguageModeling:
    """Return the objective of a run."""
    return LanguageModeling(job.recipe)


class LanguageModeling:
    """Cross-entropy of the next token, and with experts the losses of their routers."""

    unit = "tokens"
    step_metrics: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def prepare(self, strategy: Strategy, precision: str, compiled: bool) -> None:
        """Do nothing: the objective holds no model."""

    def loss(self, model: Model, batch: Batch) -> SummedLoss:
        """Return the loss of a batch.

        The router losses are sums over targets too, and those of a sequence depend on that sequence alone. So
        micro-batches and ranks add up to the same gradient.
        """
        recipe = self.recipe
        found = self.forward(model, batch, recipe.label_smoothing, recipe.checkpoint_activations)
        routers = recipe.aux_loss_weight * found.load_balancing + recipe.router_z_weight * found.router_z
        return SummedLoss(found.cross_entropy + routers, found.targets)

    def forward(
        self, model: Model, batch: Batch, label_smoothing: float = 0.0, checkpoint_activations: bool = False
    ) -> LossSums:
        """Return all losses of a batch. Raises UsageError (2) for a document mask without an end-of-text token."""
        assert isinstance(model, GPT)
        starts = batch.document_starts
        if starts is None and self.recipe.document_mask:
            if model.config.end_of_text < 0:
                raise UsageError(
                    "training.document_mask needs the id of the token between documents", "set model.end_of_text"
                )
            starts = find_document_starts(batch.input_ids, model.config.end_of_text)
        found: LossSums = model(
            batch.model_inputs(),
            targets=batch.labels,
            document_starts=starts,
            label_smoothing=label_smoothing,
            checkpoint_activations=checkpoint_activations,
        )
        return found

    def init_metrics(self, model: Model) -> Tensor:
        """Return a cross-entropy and a count of zero, (2,) float64."""
        return torch.zeros(2, dtype=torch.float64)

    def batch_metrics(self, model: Model, batch: Batch) -> Tensor:
        """Return the cross-entropy and the count of a batch, (2,) float64 on its device."""
        found = self.forward(model, batch)
        return torch.stack((to_double(found.cross_entropy), to_double(found.targets)))

    def compute_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the mean loss in nats per token."""
        total, count = sums.tolist()
        return {"loss": total / count}
