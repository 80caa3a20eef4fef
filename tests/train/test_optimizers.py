"""Optimizers: who decays, who is orthogonalized, and agreement with torch's own Muon."""

from __future__ import annotations

import torch
from torch import nn

from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.train.optimizers import adamw, muon
from gptctl.train.recipe import Recipe


def model_of(name: str) -> GPT:
    """Build a preset."""
    return GPT(ModelConfig.model_validate(load_preset(name)["model"]))


def decayed(model: GPT, recipe: Recipe) -> set[str]:
    """Name the parameters under weight decay."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = [group for optimizer in adamw.build(model, recipe) for group in optimizer.param_groups]
    return {names[parameter] for group in groups if group["weight_decay"] for parameter in group["params"]}


def test_only_matrices_decay() -> None:
    """No norm, no bias; embeddings only where the recipe says so."""
    model = model_of("tiny-gpt2")
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim == 2 and "blocks" in name}
    assert decayed(model, Recipe(weight_decay=0.1)) == matrices
    assert decayed(model, Recipe(weight_decay=0.1, decay_embeddings=True)) == matrices | {
        "embedding.weight",
        "positions.weight",
    }


def test_every_parameter_has_one_optimizer() -> None:
    """Muon takes the blocks' matrices, AdamW the rest."""
    model = model_of("tiny-modern")
    optimizers = muon.build(model, Recipe())
    owned = [parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]]
    assert len(owned) == len(set(owned)) == len(list(model.parameters()))
    assert all(parameter.ndim == 2 for parameter in optimizers[1].param_groups[0]["params"])


def test_orthogonalized_singular_values_are_near_one() -> None:
    """Wide, tall and square; a square matrix may have a singular value too small to be lifted in five rounds."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((32, 96), (96, 32), (48, 48)):
        values = torch.linalg.svdvals(muon.orthogonalize(torch.randn(3, rows, columns, generator=generator)))
        assert values.max() < 1.3
        assert values.median() > 0.7
        assert rows == columns or values.min() > 0.6


def test_muon_is_torchs_muon() -> None:
    """Same updates over several steps, up to torch's bfloat16."""
    recipe = Recipe(matrix_lr=0.02, momentum=0.95, weight_decay=0.1)
    start = [torch.randn(16, 32), torch.randn(32, 16), torch.randn(16, 32)]
    ours = [nn.Parameter(value.clone()) for value in start]
    theirs = [nn.Parameter(value.clone()) for value in start]
    one = muon.Muon(ours, recipe)
    other = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1)
    for _ in range(3):
        for mine, yours in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            yours.grad = mine.grad.clone()
        one.step()
        other.step()
    for mine, yours, begin in zip(ours, theirs, start, strict=True):
        assert (mine - yours).norm() < 0.02 * (mine - begin).norm()
