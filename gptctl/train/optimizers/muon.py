"""Muon for hidden matrices: momentum, orthogonalized (Jordan et al. 2024, "Muon"); AdamW for everything else."""

from __future__ import annotations

from torch import nn
from torch.optim import Muon, Optimizer

from gptctl.train.optimizers import adamw
from gptctl.train.recipe import Recipe


def build(model: nn.Module, recipe: Recipe) -> list[Optimizer]:
    """Give Muon over the blocks' matrices and AdamW over embeddings, head, norms and biases."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    hidden = [parameter for name, parameter in named if is_hidden_matrix(name, parameter)]
    rest = [(name, parameter) for name, parameter in named if not is_hidden_matrix(name, parameter)]
    optimizers = [adamw.over(rest, recipe)]
    if hidden:
        group = {"params": hidden, "peak_lr": recipe.matrix_lr}
        optimizers.append(Muon([group], recipe.matrix_lr, recipe.weight_decay, recipe.momentum))
    return optimizers


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether a parameter is a matrix inside a block."""
    return parameter.ndim == 2 and "blocks." in name
