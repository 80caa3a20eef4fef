"""The model arranged for generation: the logits of gpt.py, for every family and in every number format."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.infer.decoder import Decoder, WeightFormat
from gptctl.infer.decoder_layer import dense_mixture_output
from gptctl.infer.native.library import load_library
from gptctl.infer.quantize import LEVELS, Int8Linear, quantize_rows
from gptctl.model.config import preset_names
from gptctl.model.gpt import GPT
from gptctl.model.kv_cache import KVCache
from tests.model.test_gpt import make, some_tokens

needs_kernels = pytest.mark.skipif(load_library() is None, reason="this processor has no VNNI instructions, or no cc")
SMALL = [name for name in preset_names() if name.startswith("test-") or name in ("char-cpu", "char-modern")]


def logits(model: GPT | Decoder, tokens: Tensor, cuts: list[int], lengths: list[int] | None = None) -> Tensor:
    """Read tokens (B, T) piece by piece with a cache; rows may be said to be shorter after the first piece."""
    like = model.like if isinstance(model, Decoder) else model.embedding.weight
    cache, pieces = KVCache(model.config, len(tokens), tokens.size(1), like), []
    with torch.inference_mode():
        for start, stop in zip([0, *cuts], [*cuts, tokens.size(1)], strict=True):
            pieces.append(model.logits(model.hidden_states(tokens[:, start:stop], cache)))
            if lengths and not start:
                cache.set_lengths(lengths)
    return torch.cat(pieces, 1)


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_those_of_the_model(name: str) -> None:
    """Whole prompt, pieces and single tokens, even and ragged rows, within 1e-5."""
    model = make(name)
    tokens = some_tokens(model, 3, 30)
    for lengths in (None, [3, 19, 8]):
        cuts = [19, 23, 24, 25]
        wanted = logits(model, tokens, cuts, lengths)
        torch.testing.assert_close(logits(Decoder(model), tokens, cuts, lengths), wanted, atol=1e-5, rtol=1e-5)
    assert wanted.std() > 0.1


@pytest.mark.parametrize("changes", [{"activation": "relu2"}, {"activation": "gelu"}, {"logit_softcap": 3.0},
                                     {"tie_embeddings": False, "bias": False}])  # fmt: skip
def test_other_choices_of_the_model(changes: dict[str, object]) -> None:
    """What no small preset has."""
    model = make("test-gpt2", **changes)
    tokens = some_tokens(model, 2, 12)
    torch.testing.assert_close(logits(Decoder(model), tokens, [9]), logits(model, tokens, [9]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("weights", "most"), [("bf16", 0.02), ("int8", 0.02), pytest.param("int4", 0.5, marks=needs_kernels)]
)
def test_fewer_bits_are_near(name: str, weights: WeightFormat, most: float) -> None:
    """The distribution moves little, for random weights of unit size."""
    model = make(name)
    tokens = some_tokens(model, 2, 30)
    wanted = logits(model, tokens, [19, 29]).log_softmax(-1)
    found = logits(Decoder(model, weights), tokens, [19, 29]).log_softmax(-1)
    divergence = F.kl_div(found, wanted, log_target=True, reduction="batchmean") / 30
    assert 0 < divergence < most
    assert found.dtype == torch.float32


@pytest.mark.parametrize("bias", [False, True])
def test_int8_products_are_exact(bias: bool) -> None:
    """Against the definition in float64, for one row and many, and a row of zeros."""
    weight, x = torch.randn(37, 200), torch.randn(5, 200) * torch.tensor([1e-3, 1.0, 50.0, 0.0, 1.0])[:, None]
    offset = torch.randn(37) if bias else None
    whole, scales = quantize_rows(weight)
    assert (whole * scales[:, None] - weight).abs().max() <= scales.max() / 2 * 1.0001
    peaks = x.abs().amax(1, keepdim=True).clamp_min(1e-30)
    rounded = (x / peaks * LEVELS).round().double() * peaks / LEVELS
    wanted = rounded @ (whole.double() * scales[:, None]).T + (0 if offset is None else offset)
    layer = Int8Linear(weight, offset)
    if layer.levels == LEVELS:
        torch.testing.assert_close(layer(x).double(), wanted, atol=1e-4, rtol=1e-4)
    one_by_one = torch.cat([layer(row[None]) for row in x])
    assert torch.equal(layer(x), one_by_one)


def test_large_products_do_not_overflow() -> None:
    """All weights and activations at their largest: what 16 bits could not hold."""
    layer = Int8Linear(torch.ones(16, 3072), None)
    torch.testing.assert_close(layer(torch.full((2, 3072), 3.0)), torch.full((2, 16), 3 * 3072.0))


@pytest.mark.parametrize("name", ["test-gpt2", "test-moe"])
def test_int8_keeps_no_float_matrices(name: str) -> None:
    """Once the model is gone, nothing holds a matrix of it but the positions and the experts' routers."""
    model = make(name)
    kept = ("positions", "router")
    places = {p.data_ptr() for n, p in model.named_parameters() if p.dim() > 1 and not any(k in n for k in kept)}
    decoder = Decoder(model, "int8")
    del model
    gc.collect()
    alive = {
        thing.data_ptr() for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter) and thing.dim() > 1
    }
    assert len(places) > 10
    assert not places & alive
    assert decoder.config.layers == 2


def test_experts_without_counts_are_those_of_the_model() -> None:
    """All experts are computed for each token, and those that it was routed to are added."""
    module: Any = make("test-moe").blocks[1].feed_forward  # type: ignore[union-attr]
    x = torch.randn(5, 3, module.router.in_features)
    with torch.no_grad():
        torch.testing.assert_close(dense_mixture_output(module, module.experts, x), module(x)[0], atol=1e-5, rtol=1e-5)
