"""Sliding-window attention: equal to a mask over everything, in value, gradient and with the cache, at the cost of a window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gptctl.model.config import ModelConfig
from gptctl.model.gpt import find_document_starts
from gptctl.model.kv_cache import KVCache
from gptctl.model.sliding_window import document_mask, sliding_window_attention
from tests.model.test_gpt import make, some_tokens

BAND = 16


def naive(q: Tensor, k: Tensor, v: Tensor, band: int, starts: Tensor | None) -> Tensor:
    """Spell softmax(q k^T / sqrt(D)) v out, with a mask over all pairs of tokens."""
    T = q.size(2)
    k, v = (x.repeat_interleave(q.size(1) // x.size(1), 1) for x in (k, v))
    seen = torch.zeros(q.size(0), 1, T, T, dtype=torch.bool)
    for row in range(q.size(0)):
        for query in range(T):
            first = max(0, query - band + 1, 0 if starts is None else int(starts[row, query]))
            seen[row, 0, query, first : query + 1] = True
    scores: Tensor = (q @ k.mT / q.size(-1) ** 0.5).masked_fill(~seen, -torch.inf)
    result: Tensor = scores.softmax(-1) @ v
    return result


@pytest.mark.parametrize("length", [1, 15, 16, 17, 48, 61])
@pytest.mark.parametrize("resolved_kv_heads", [4, 2])
@pytest.mark.parametrize("documents", [False, True])
def test_equals_a_naive_mask_in_value_and_gradient(length: int, resolved_kv_heads: int, documents: bool) -> None:
    """Lengths below, at and between multiples of the band."""
    generator = torch.Generator().manual_seed(length)
    q, k, v = (
        torch.randn(3, heads, length, 8, generator=generator) for heads in (4, resolved_kv_heads, resolved_kv_heads)
    )
    tokens = torch.randint(6, (3, length), generator=generator)
    starts = find_document_starts(tokens, 0) if documents else None
    above = torch.randn(3, 4, length, 8, generator=generator)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    results = [
        [y, *torch.autograd.grad(y, inputs, above)]
        for y in (sliding_window_attention(q, k, v, BAND, starts, 0.0), naive(q, k, v, BAND, starts))
    ]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)


def test_the_document_mask_is_the_naive_one() -> None:
    """Dense layers: nothing before one's own document, nothing after oneself."""
    starts = find_document_starts(torch.tensor([[5, 1, 0, 2, 3, 0, 0, 4]]), 0)
    assert starts.tolist() == [[0, 0, 2, 2, 2, 5, 6, 6]]
    seen = document_mask(starts)[0, 0]
    assert [[key for key in range(8) if seen[query, key]] for query in (1, 4, 5, 7)] == [[0, 1], [2, 3, 4], [5], [6, 7]]


def test_no_tensor_grows_with_the_square_of_the_length() -> None:
    """Eight times as many tokens: eight times the largest tensor, not 64 times."""

    class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
        size = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            tensors = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
            self.size = max(self.size, *(x.untyped_storage().nbytes() for x in tensors), 0)
            return result

    sizes = []
    for length in (256, 2048):
        q = torch.randn(1, 2, length, 8)
        with Largest() as largest:  # type: ignore[no-untyped-call]
            sliding_window_attention(q, q, q, BAND, torch.zeros(1, length, dtype=torch.long), 0.0)
        sizes.append(largest.size)
    assert sizes[1] <= 9 * sizes[0]


@pytest.mark.parametrize("length", [BAND - 3, BAND, 40])
def test_ragged_rows_with_a_cache(length: int) -> None:
    """Rows around the band's width go on for more than a band, each as it does alone and without a cache."""
    model = make("test-gpt3")
    lengths = [length, 3, length - 1]
    tokens, following = some_tokens(model, 3, length), some_tokens(model, 3, 20)
    with torch.no_grad():
        cache = KVCache(model.config, 3, 64, model.embedding.weight)
        model(tokens, cache)
        cache.set_lengths(lengths)
        pieces = [model(following[:, a:b], cache) for a, b in ((0, 1), (1, 4), (4, 5), (5, 20))]
        for row, count in enumerate(lengths):
            alone = model(torch.cat((tokens[row, :count], following[row]))[None])
            torch.testing.assert_close(torch.cat(pieces, 1)[row], alone[0, -20:], atol=1e-5, rtol=1e-5)


def test_which_layers_are_sliding() -> None:
    """The pattern repeats over the layers; GPT-3 begins with a dense one."""
    config = ModelConfig(layers=5, layer_pattern=("full", "sliding", "sliding"), sliding_window=7)
    assert [config.layer_window(layer) for layer in range(5)] == [0, 7, 7, 0, 7]
    with pytest.raises(ValueError, match="layer_pattern"):
        ModelConfig.model_validate({"layer_pattern": ["full", "x"]})
