"""Block masks for FlexAttention: torch's own for the same rule, and attention as with a mask over all pairs of tokens.

torch runs FlexAttention on the CPU without a backward pass, which is the same rule of torch's.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from gptctl.model.block_mask import BLOCK_SIZE, block_attention, causal_block_mask, first_keys
from gptctl.model.gpt import GPT, find_document_starts
from gptctl.model.sliding_window import document_mask, sliding_window_attention
from tests.model.test_gpt import make, some_tokens

CPU = torch.device("cpu")
EAGER = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")


def starts_of(batch_size: int, length: int, document: int) -> Tensor:
    """Draw documents of about so many tokens."""
    generator = torch.Generator().manual_seed(length)
    return find_document_starts(torch.randint(document, (batch_size, length), generator=generator), 0)


def columns(mask: BlockMask) -> list[list[tuple[set[int], set[int]]]]:
    """Return the blocks that each block of queries attends to: in part, and wholly."""
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_indices is not None
    parts = (mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)
    sets = [
        [
            [set(row[:count].tolist()) for count, row in zip(*pair, strict=True)]
            for pair in zip(n[:, 0], i[:, 0], strict=True)
        ]
        for n, i in parts
    ]
    return [list(zip(*pair, strict=True)) for pair in zip(*sets, strict=True)]


@pytest.mark.parametrize("length", [5, BLOCK_SIZE, 3 * BLOCK_SIZE, 700])
@pytest.mark.parametrize(("window", "document"), [(0, 40), (0, 300), (100, 0), (300, 0), (150, 200)])
def test_blocks_are_those_that_torch_finds(length: int, window: int, document: int) -> None:
    """torch looks at every pair of tokens; whole blocks, partial ones and their transposes are the same."""
    starts = starts_of(2, length, document) if document else None
    mask = causal_block_mask(first_keys(torch.Size((2, length)), CPU, window, starts))

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        inside = (key <= query) & (key > query - window) if window else key <= query
        return inside if starts is None else inside & (key >= starts[batch, query])

    found = create_block_mask(allowed, 2, None, length, length, device="cpu")
    assert columns(mask) == columns(found)
    assert torch.equal(mask.q_num_blocks, found.q_num_blocks)
    assert mask.shape == found.shape


@EAGER
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("window", [0, 150])
def test_attention_is_that_of_a_full_mask(kv_heads: int, window: int) -> None:
    """Documents alone, and in a sliding window, over blocks that the length does not fill."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 300, 16, generator=generator) for heads in (4, kv_heads, kv_heads))
    starts = starts_of(2, 300, 90)
    found = block_attention(q, k, v, causal_block_mask(first_keys(torch.Size((2, 300)), CPU, window, starts)))
    if window:
        expected = sliding_window_attention(q, k, v, window, starts, 0.0)
    else:
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=document_mask(starts), enable_gqa=True)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@EAGER
@pytest.mark.parametrize("documents", [False, True])
def test_a_model_with_block_masks_is_the_same(monkeypatch: pytest.MonkeyPatch, documents: bool) -> None:
    """Full and sliding layers with rotary positions and shared key heads: logits as with the other masks."""
    model = make("test-modern", layer_pattern=["full", "sliding"], sliding_window=9)
    tokens = some_tokens(model, 2, 60)
    starts = starts_of(2, 60, 20) if documents else None
    with torch.no_grad():
        expected = model(tokens, document_starts=starts)
        monkeypatch.setattr(GPT, "uses_block_masks", lambda self, device: True)
        torch.testing.assert_close(model(tokens, document_starts=starts), expected, atol=2e-5, rtol=1e-4)


def test_where_block_masks_are_used() -> None:
    """In compiled blocks on CUDA, not for attention with dropout or heads that are too small."""
    model, cuda = make("test-modern", hidden_size=64, heads=4), torch.device("cuda")
    assert not model.uses_block_masks(cuda)
    model.is_compiled = True
    assert model.uses_block_masks(cuda)
    assert not model.uses_block_masks(CPU)
    small = make("test-modern", hidden_size=32, heads=4)
    small.is_compiled = True
    assert not small.uses_block_masks(cuda)
    dropping = make("test-modern", hidden_size=64, heads=4, attention_dropout=0.1)
    dropping.is_compiled = True
    assert dropping.uses_block_masks(cuda)
    assert not dropping.train().uses_block_masks(cuda)
