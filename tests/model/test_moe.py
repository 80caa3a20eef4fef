"""Mixture of experts: against a loop over tokens, and losses of the router that no cutting of a batch can change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.moe import MixtureOfExperts, can_group, grouped_matmul, looped_matmul, router_losses
from tests.model.test_gpt import make, some_tokens


def mixture(**changes: object) -> MixtureOfExperts:
    """Build test-moe's mixture with random weights."""
    part = MixtureOfExperts(ModelConfig.model_validate(load_preset("test-moe")["model"] | changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return part


def token_by_token(part: MixtureOfExperts, x: Tensor) -> Tensor:
    """Do what the class says, one token after the other."""
    rows = []
    for token in x.flatten(0, 1):
        logits = part.router.weight @ token
        best = logits.sort(descending=True).indices[: part.top_k]
        weights = torch.exp(logits[best]) / torch.exp(logits[best]).sum()
        total = torch.zeros_like(token)
        for weight, expert in zip(weights, best.tolist(), strict=True):
            gate, up, down = (getattr(part.experts, name)[expert] for name in ("gate", "up", "down"))
            total = total + weight * (down @ (F.silu(gate @ token) * (up @ token)))
        rows.append(total)
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({}, True),
        ({"experts": 8}, True),
        ({"experts_per_token": 3}, True),
        ({"hidden_size": 40, "intermediate_size": 10}, False),
    ],
)
def test_equals_a_loop_over_tokens(changes: dict[str, object], groups: bool) -> None:
    """Value and every gradient, also where sizes are odd and torch's grouped product is out of reach."""
    part = mixture(**changes)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 9, part.router.in_features, generator=generator, requires_grad=True)
    assert can_group(x, part.experts.gate) == groups
    above = torch.randn(x.shape, generator=generator)
    results = []
    for y in (part(x)[0], token_by_token(part, x)):
        gradients = torch.autograd.grad(y, [x, *part.parameters()], above)
        results.append([y, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_and_looped_are_one(dtype: torch.dtype) -> None:
    """Bit for bit, forward and backward, with experts that nobody came to."""
    counts = torch.tensor([0, 5, 0, 27, 8, 0])
    results = []
    for product in (grouped_matmul, looped_matmul):
        generator = torch.Generator().manual_seed(0)
        x, weight = (torch.randn(size, generator=generator).requires_grad_() for size in ((40, 64), (6, 32, 64)))
        y = product(x.to(dtype), weight, counts)
        results.append([y, *torch.autograd.grad(y, [x, weight], torch.randn(y.shape, generator=generator).to(dtype))])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_no_token_is_dropped() -> None:
    """All tokens want the same two experts: they get them, whatever the load."""
    part = mixture()
    with torch.no_grad():
        part.router.weight[:2] = 1.0
        part.router.weight[2:] = -1.0
        x = torch.rand(2, 50, 64)
        y, logits = part(x)
        assert (logits.topk(2).indices < 2).all()
        torch.testing.assert_close(y, token_by_token(part, x), atol=1e-5, rtol=1e-5)


def test_the_router_stays_in_single_precision() -> None:
    """Under autocast its logits are the float32 ones, and the experts' products are not."""
    part = mixture()
    x = torch.randn(2, 9, 64)
    _, wanted = part(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, logits = part(x)
    assert torch.equal(logits, wanted)
    assert y.dtype == torch.float32
    exact = part(x)[0]
    assert not torch.equal(y, exact)
    assert ((y - exact).norm() / exact.norm()).item() < 0.02


def test_router_losses_are_the_papers() -> None:
    """Equation by equation in plain Python; padding has no say; an even load costs 1 a token."""
    logits = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(3))
    counted = torch.ones(2, 6, dtype=torch.bool)
    counted[1, 4:] = False
    balance = z = 0.0
    for row, tokens in enumerate((6, 4)):
        chances = logits[row, :tokens].softmax(-1)
        best = logits[row, :tokens].topk(2).indices.flatten().tolist()
        shares = [best.count(expert) / (2 * tokens) for expert in range(4)]
        balance += tokens * 4 * sum(f * p for f, p in zip(shares, chances.mean(0).tolist(), strict=True))
        z += sum(float(each.exp().sum().log() ** 2) for each in logits[row, :tokens])
    found = router_losses(logits, counted, 2)
    assert found[0].item() == pytest.approx(balance, rel=1e-5)
    assert found[1].item() == pytest.approx(z, rel=1e-5)
    even = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]]).log().clamp(min=-30)
    assert router_losses(even, torch.ones(1, 2, dtype=torch.bool), 2)[0].item() == pytest.approx(2)


def test_the_balancing_loss_spreads_the_load() -> None:
    """Descending along it alone makes a router that favours two experts use all four."""
    part = mixture()
    with torch.no_grad():
        part.router.weight.mul_(0.2)[:2] += 0.05
    x = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0)) + 0.5
    counted = torch.ones(4, 64, dtype=torch.bool)
    optimizer = torch.optim.SGD(part.router.parameters(), lr=1e-4)

    def largest_share() -> float:
        chosen = part.router(x).topk(2).indices.flatten()
        return float(torch.bincount(chosen, minlength=4).max() / chosen.numel())

    before = largest_share()
    for _ in range(40):
        part.router.weight.grad = torch.autograd.grad(router_losses(part.router(x), counted, 2)[0], part.router.weight)[
            0
        ]
        optimizer.step()
    assert before > 0.45
    assert largest_share() < 0.3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch, after a graph's break
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_torch_can_compile_it(precision: str) -> None:
    """In bfloat16 as one graph; in float32 the loop breaks it, and the bits stay."""
    model = make("test-moe")
    tokens = some_tokens(model, 2, 24)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=precision == "bf16", dynamic=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        one, other = model(tokens, targets=tokens), compiled(tokens, targets=tokens)
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"experts_per_token": 5}, {"bias": True}, {"activation": "relu2"}, {"experts_per_token": 1}]
)
def test_impossible_mixtures_are_refused(wrong: dict[str, object]) -> None:
    """More experts per token than there are, or a kind of expert that is not written."""
    with pytest.raises(ValueError, match="expert"):
        ModelConfig.model_validate(load_preset("test-moe")["model"] | wrong)
