"""Low-rank updates: nothing at first, exact when merged, and all that learns."""

from __future__ import annotations

import pytest
import torch

from gptctl.core.errors import UsageError
from gptctl.model import lora
from gptctl.model.gpt import GPT
from gptctl.model.lora import LoraLinear
from gptctl.model.lora_config import LoraConfig
from tests.model.test_gpt import make

TOKENS = torch.randint(3, 400, (2, 16), generator=torch.Generator().manual_seed(0))


def disturbed(model: GPT) -> None:
    """Put something into every update."""
    draw = torch.Generator().manual_seed(1)
    for _, layer in lora.lora_layers(model):
        torch.nn.init.normal_(layer.lora_b, std=0.1, generator=draw)
        if layer.magnitude is not None:
            with torch.no_grad():
                layer.magnitude.mul_(1 + 0.1 * torch.rand(layer.magnitude.shape, generator=draw))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("name", ["test-gpt1", "test-gpt2", "test-modern", "test-moe"])
@torch.no_grad()
def test_merged_is_the_same_model(name: str, dora: bool) -> None:
    """At first the base itself; after learning, logits of the merged model within 1e-5 and names as before."""
    model = make(name).eval()
    names, before = list(model.state_dict()), model(TOKENS)
    lora.apply_lora(model, LoraConfig(rank=3, dora=dora), seed=0)
    torch.testing.assert_close(model(TOKENS), before, atol=1e-5, rtol=0)
    disturbed(model)
    learned = model(TOKENS)
    assert (learned - before).abs().max() > 1e-2
    lora.merge_lora(model)
    torch.testing.assert_close(model(TOKENS), learned, atol=1e-5, rtol=0)
    assert list(model.state_dict()) == names


def test_only_the_updates_learn() -> None:
    """Everything of the base is frozen; the targets are those that the globs name."""
    model = make("test-gpt2")
    lora.apply_lora(model, LoraConfig(rank=2, targets=("blocks.*.attention.query", "blocks.1.feed_forward.*")), seed=0)
    names = [name for name, layer in lora.lora_layers(model)]
    assert names == [
        "blocks.0.attention.query", "blocks.1.attention.query", "blocks.1.feed_forward.up", "blocks.1.feed_forward.down",
    ]  # fmt: skip
    model(TOKENS).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.endswith(("lora_a", "lora_b")), name
    with pytest.raises(UsageError, match="no linear layer matches"):
        lora.apply_lora(make("test-gpt2"), LoraConfig(rank=2, targets=("nothing",)), seed=0)


def test_dora_scales_each_output() -> None:
    """W' = m (W + s B A) / |W + s B A|, row by row, by its definition."""
    inner = torch.nn.Linear(7, 5)
    layer = LoraLinear(inner, LoraConfig(rank=2, alpha=3, dora=True), torch.Generator().manual_seed(0))
    torch.nn.init.normal_(layer.lora_b)
    weight = inner.weight + 1.5 * layer.lora_b @ layer.lora_a
    assert layer.magnitude is not None
    wanted = torch.stack([m * row / row.norm() for m, row in zip(inner.weight.norm(dim=1), weight, strict=True)])
    torch.testing.assert_close(layer.merged(), wanted)
    x = torch.randn(3, 7)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, wanted, inner.bias))
