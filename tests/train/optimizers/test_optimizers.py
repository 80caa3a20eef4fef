"""Optimizers: who decays, who is orthogonalized, and agreement with torch's Muon and with the published algorithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize
from gptctl.model.moe import Experts
from gptctl.train.optimizers import adamw, muon
from gptctl.train.recipe import Recipe
from gptctl.train.strategies.single import SingleDevice

HERE = SingleDevice(torch.device("cpu"))
TINY = [name for name in preset_names() if name.startswith("test-")]


def model_of(name: str) -> GPT:
    """Build and initialize a preset."""
    model = GPT(ModelConfig.model_validate(load_preset(name)["model"]))
    initialize(model, 0)
    return model


def decayed(model: GPT, recipe: Recipe, optimizer: str) -> set[str]:
    """Name the parameters under weight decay."""
    parameters = dict(model.named_parameters())
    names = {parameter: name for name, parameter in parameters.items()}
    build = {"adamw": adamw.build, "muon": muon.build}[optimizer]
    groups = [group for built in build(parameters, recipe, HERE) for group in built.param_groups]
    return {names[parameter] for group in groups if group["weight_decay"] for parameter in group["params"]}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("preset", TINY)
def test_only_what_multiplies_decays(preset: str, optimizer: str) -> None:
    """Linear maps and experts do; norms, biases and tables of embeddings do not, unless the recipe says so."""
    model = model_of(preset)
    kinds = dict(model.named_modules())
    expected, tables = set(), set()
    for name, _ in model.named_parameters():
        owner = kinds[name.rpartition(".")[0]]
        if isinstance(owner, Experts) or (isinstance(owner, nn.Linear) and name.endswith("weight")):
            expected.add(name)
        elif isinstance(owner, nn.Embedding):
            tables.add(name)
    assert expected
    assert tables
    assert decayed(model, Recipe(weight_decay=0.1), optimizer) == expected
    assert decayed(model, Recipe(weight_decay=0.1, decay_embeddings=True), optimizer) == expected | tables


def test_gpt2s_groups_by_name() -> None:
    """The same, spelled out for one block."""
    found = decayed(model_of("test-gpt2"), Recipe(weight_decay=0.1), "adamw")
    assert {name for name in found if "blocks.0." in name} == {
        "blocks.0.attention.query.weight",
        "blocks.0.attention.key.weight",
        "blocks.0.attention.value.weight",
        "blocks.0.attention.output.weight",
        "blocks.0.feed_forward.up.weight",
        "blocks.0.feed_forward.down.weight",
    }
    assert not any(word in name for name in found for word in ("bias", "norm", "embedding", "positions"))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_decay_is_decoupled(optimizer: str) -> None:
    """Without a gradient a step shrinks what decays by lr * decay, and leaves the rest."""
    model = model_of("test-moe")
    recipe = Recipe(weight_decay=0.5, lr=0.1, matrix_lr=0.1)
    decays = decayed(model, recipe, optimizer)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for built in {"adamw": adamw.build, "muon": muon.build}[optimizer](dict(model.named_parameters()), recipe, HERE):
        built.step()
    for name, parameter in model.named_parameters():
        expected = before[name] * (0.95 if name in decays else 1.0)
        torch.testing.assert_close(parameter.detach(), expected, msg=name)


@pytest.mark.parametrize("preset", TINY)
def test_every_parameter_has_one_optimizer(preset: str) -> None:
    """Muon takes the blocks' matrices and stacks of matrices, AdamW the rest, routers among it."""
    model = model_of(preset)
    optimizers = muon.build(dict(model.named_parameters()), Recipe(), HERE)
    owned = [parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]]
    assert len(owned) == len(set(owned)) == len(list(model.parameters()))
    orthogonalized = {parameter for group in optimizers[1].param_groups for parameter in group["params"]}
    assert orthogonalized == {
        parameter
        for name, parameter in model.blocks.named_parameters()
        if parameter.ndim >= 2 and not name.endswith("router.weight")
    }


def test_orthogonalized_singular_values_are_near_one() -> None:
    """Wide, tall and square; a square matrix may have a singular value too small to be lifted in five rounds."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((32, 96), (96, 32), (48, 48)):
        values = torch.linalg.svdvals(muon.orthogonalize(torch.randn(3, rows, columns, generator=generator)))
        assert values.max() < 1.3
        assert values.median() > 0.7
        assert rows == columns or values.min() > 0.6


def published(weight: np.ndarray, gradients: list[np.ndarray], lr: float, momentum: float, decay: float) -> np.ndarray:
    """Follow the algorithm of https://kellerjordan.github.io/posts/muon in double precision, matrix by matrix."""
    running = np.zeros_like(weight)
    for gradient in gradients:
        running = momentum * running + (1 - momentum) * gradient
        x = (1 - momentum) * gradient + momentum * running
        x = x / np.linalg.norm(x)
        flip = x.shape[0] > x.shape[1]
        x = x.T if flip else x
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        x = x.T if flip else x
        weight = weight * (1 - lr * decay) - lr * max(1, weight.shape[0] / weight.shape[1]) ** 0.5 * x
    return weight


def test_muon_is_the_published_algorithm() -> None:
    """Several steps on wide, tall and square matrices, to single precision."""
    recipe = Recipe(matrix_lr=0.02, momentum=0.95, weight_decay=0.1)
    random = np.random.default_rng(0)
    shapes = [(16, 32), (32, 16), (16, 32), (24, 24)]
    start = [random.normal(size=shape) for shape in shapes]
    gradients = [[random.normal(size=shape) for shape in shapes] for _ in range(4)]
    ours = [nn.Parameter(torch.tensor(value, dtype=torch.float32)) for value in start]
    optimizer = muon.Muon(ours, recipe, HERE)
    for step in gradients:
        for parameter, gradient in zip(ours, step, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    for i, parameter in enumerate(ours):
        expected = published(start[i], [step[i] for step in gradients], 0.02, 0.95, 0.1)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, atol=2e-4)


def test_muon_is_torchs_muon() -> None:
    """Same updates over several steps, up to torch's bfloat16."""
    recipe = Recipe(matrix_lr=0.02, momentum=0.95, weight_decay=0.1)
    start = [torch.randn(16, 32), torch.randn(32, 16), torch.randn(16, 32)]
    ours = [nn.Parameter(value.clone()) for value in start]
    theirs = [nn.Parameter(value.clone()) for value in start]
    one = muon.Muon(ours, recipe, HERE)
    other = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1)
    for _ in range(3):
        for mine, yours in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            yours.grad = mine.grad.clone()
        one.step()
        other.step()  # type: ignore[no-untyped-call]
    for mine, yours, begin in zip(ours, theirs, start, strict=True):
        assert (mine - yours).norm() < 0.02 * (mine - begin).norm()


def test_each_expert_is_a_matrix_of_its_own() -> None:
    """A stack moves as its matrices would alone; one that no token was sent to stays."""
    recipe = Recipe(matrix_lr=0.02, weight_decay=0.0)
    start, gradient = torch.randn(4, 12, 8), torch.randn(4, 12, 8)
    gradient[2] = 0
    stack = nn.Parameter(start.clone())
    alone = [nn.Parameter(matrix.clone()) for matrix in start]
    stack.grad = gradient
    for parameter, part in zip(alone, gradient, strict=True):
        parameter.grad = part.clone()
    muon.Muon([stack], recipe, HERE).step()
    muon.Muon(alone, recipe, HERE).step()
    torch.testing.assert_close(stack.detach(), torch.stack([parameter.detach() for parameter in alone]))
    assert torch.equal(stack[2], start[2])
    assert not torch.equal(stack[1], start[1])


def test_large_stacks_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven matrices at once, two at a time or one by one: the same weights. Two ranks get at least a matrix each."""
    start, gradients = torch.randn(7, 24, 16), torch.randn(7, 24, 16)
    results = []
    for numbers in (muon.STACKED_NUMBERS, 2 * 24 * 16 + 5, 1):
        monkeypatch.setattr(muon, "STACKED_NUMBERS", numbers)
        matrices = [nn.Parameter(matrix.clone()) for matrix in start]
        for matrix, gradient in zip(matrices, gradients, strict=True):
            matrix.grad = gradient
        assert max(map(len, muon.stacks(matrices, 24 * 16, 1))) == {1: 1, 773: 2}.get(numbers, 7)
        assert [len(stack) for stack in muon.stacks(matrices, 24 * 16, 2)] == ([7] if numbers > 773 else [2, 2, 2, 1])
        muon.Muon(matrices, Recipe(matrix_lr=0.02), HERE).step()
        results.append(torch.stack([matrix.detach() for matrix in matrices]))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])
