"""Predict the next token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptctl.core.errors import UsageError
from gptctl.model.gpt import GPT, LossSums, find_document_starts
from gptctl.train.recipe import Recipe

UNIT = "tokens"  # what its targets are


def loss(model: nn.Module, batch: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Return the summed loss and the number of tokens predicted in a batch, see `losses`.

    With experts, the two losses of their routers are in it, weighted. They are sums over targets too, each sequence's
    depending on that sequence alone, so micro-batches and ranks add up to the same gradient.
    """
    found = losses(model, batch, recipe, recipe.label_smoothing, recipe.checkpoint_activations)
    routers = recipe.balance_weight * found.load_balancing + recipe.router_z_weight * found.router_z
    return found.cross_entropy + routers, found.targets


def losses(
    model: nn.Module, batch: Tensor, recipe: Recipe, smoothing: float = 0.0, checkpoint_activations: bool = False
) -> LossSums:
    """Call the model on windows (B, T + 1), where -1 is nothing, or on rows (B, 3, T) of inputs, targets and starts.

    Raises UsageError (2) for a document mask where none can be told.
    """
    assert isinstance(model, GPT)
    starts = None
    if batch.ndim == 3:  # what is learned, and where documents begin, does not follow from the tokens
        tokens, targets, starts = batch.unbind(1)
    else:
        tokens, targets = batch[:, :-1], batch[:, 1:]
    if starts is None and recipe.document_mask:
        if model.config.end_of_text < 0:
            raise UsageError(
                "training.document_mask needs the id of the token between documents", "set model.end_of_text"
            )
        starts = find_document_starts(tokens, model.config.end_of_text)
    found: LossSums = model(
        tokens.clamp(min=0),
        targets=targets,
        document_starts=starts,
        label_smoothing=smoothing,
        checkpoint_activations=checkpoint_activations,
    )
    return found


def blank(model: nn.Module) -> Tensor:
    """Return the tally of nothing."""
    return torch.zeros(2, dtype=torch.float64)


def tally(model: nn.Module, batch: Tensor, recipe: Recipe) -> Tensor:
    """Return what to add up over a whole split: cross-entropy and count, (2,) float64 on the CPU."""
    found = losses(model, batch, recipe)
    return torch.tensor((found.cross_entropy.item(), found.targets.item()), dtype=torch.float64)


def metrics(tallied: Tensor) -> dict[str, float]:
    """Turn the sum of all tallies into the mean loss in nats per token."""
    total, count = tallied.tolist()
    return {"loss": total / count}
