"""The model: against torch's own Transformer layer, and the promises every family shares."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptctl.model.attention import Attention
from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.cross_entropy import cross_entropy_sum
from gptctl.model.gpt import GPT, sinusoidal_positions
from gptctl.model.initialize import initialize
from gptctl.model.kv_cache import KVCache
from gptctl.model.rope import apply_rope, rope_tables

FAMILIES = ("test-vaswani", "test-gpt1", "test-gpt2", "test-gpt3", "test-modern", "test-moe", "char-modern")


def make(name: str, randomize: bool = True, **changes: Any) -> GPT:
    """Build a preset's model in which no parameter is zero, so that nothing can hide behind one."""
    model = GPT(ModelConfig.model_validate(load_preset(name)["model"] | changes))
    initialize(model, seed=0)
    if randomize:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def logits_of(model: Any, tokens: Tensor, **more: Any) -> Tensor:
    """Return a model's logits, ours or that of another library."""
    with torch.no_grad():
        found = model(tokens, **more)
    result: Tensor = found if isinstance(found, Tensor) else found.logits
    return result


def some_tokens(model: GPT, rows: int, length: int) -> torch.Tensor:
    """Draw tokens."""
    return torch.randint(model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_block_is_torchs_transformer_layer(norm_first: bool) -> None:
    """Same weights in nn.TransformerEncoderLayer with a causal mask: same output."""
    model = make("test-vaswani", dropout=0.0, norm_position="pre" if norm_first else "post")
    block: Any = model.blocks[0]
    config = model.config
    theirs = nn.TransformerEncoderLayer(
        config.hidden_size, config.heads, config.intermediate_size, 0.0, batch_first=True, norm_first=norm_first
    ).eval()
    with torch.no_grad():
        for kind in ("weight", "bias"):
            parts = [getattr(getattr(block.attention, part), kind) for part in ("query", "key", "value")]
            getattr(theirs.self_attn, f"in_proj_{kind}").copy_(torch.cat(parts))
            for mine, other in (
                (block.attention.output, theirs.self_attn.out_proj),
                (block.feed_forward.up, theirs.linear1),
                (block.feed_forward.down, theirs.linear2),
                (block.attention_norm, theirs.norm1),
                (block.feed_forward_norm, theirs.norm2),
            ):
                getattr(other, kind).copy_(getattr(mine, kind))
    x = torch.randn(2, 10, config.hidden_size)
    mask = nn.Transformer.generate_square_subsequent_mask(10)
    torch.testing.assert_close(block(x, None, None, None)[0], theirs(x, mask, is_causal=True), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_token_cannot_see_the_future(name: str) -> None:
    """Changing a token, in the first and in a later band, leaves the logits before it as they were and not its own."""
    model = make(name)
    tokens = some_tokens(model, 2, 50)
    for place in (7, 37):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % model.config.vocab_size
        with torch.no_grad():
            before, after = model(tokens), model(changed)
        # Experts are sent the tokens in another order, and products of another size may round in another way.
        torch.testing.assert_close(before[:, :place], after[:, :place], atol=1e-5, rtol=1e-5)
        assert (before[:, place] - after[:, place]).abs().max() > 1e-2
    assert before.shape == (2, 50, model.config.vocab_size)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_cache_changes_nothing(name: str) -> None:
    """Token by token, in pieces and at once: logits within 1e-5 in single precision."""
    model = make(name)
    tokens = some_tokens(model, 3, 40)
    with torch.no_grad():
        whole = model(tokens)
        cache = KVCache(model.config, 3, 40, model.embedding.weight)
        pieces = [model(tokens[:, a:b], cache) for a, b in ((0, 19), (19, 33), *((i, i + 1) for i in range(33, 40)))]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_a_ragged_batch_do_not_feel_each_other(name: str) -> None:
    """Prompts of 3, 9 and 1 tokens together: each row's next logits equal its own run's."""
    model = make(name)
    tokens, lengths = some_tokens(model, 3, 9), [3, 9, 1]
    following = some_tokens(model, 3, 2)
    with torch.no_grad():
        cache = KVCache(model.config, 3, 16, model.embedding.weight)
        model(tokens, cache)
        cache.set_lengths(lengths)
        together = model(following, cache)
        for row, length in enumerate(lengths):
            alone = model(torch.cat((tokens[row, :length], following[row]))[None])
            torch.testing.assert_close(together[row], alone[0, -2:], atol=1e-5, rtol=1e-5)


def test_grouped_queries_share_keys() -> None:
    """Two key heads for four heads equal four key heads with repeated weights."""
    grouped = make("test-modern")
    full = make("test-modern", kv_heads=4)
    size = grouped.config.resolved_head_dim
    state = grouped.state_dict()
    for name in list(state):
        if name.endswith(("key.weight", "value.weight")):
            state[name] = state[name].view(2, size, -1).repeat_interleave(2, 0).flatten(0, 1)
    full.load_state_dict(state)
    tokens = some_tokens(grouped, 2, 11)
    with torch.no_grad():
        torch.testing.assert_close(grouped(tokens), full(tokens), atol=1e-5, rtol=1e-5)


def test_attention_in_bfloat16_is_that_in_single_precision() -> None:
    """While training, where weights are written out, and else; results and gradients within bfloat16's rounding."""
    torch.manual_seed(3)
    layer = Attention(
        ModelConfig(layers=1, hidden_size=48, heads=3, intermediate_size=8, vocab_size=9, max_seq_len=64), 0
    )
    x, weight = torch.randn(2, 40, 48), torch.randn(2, 40, 48)

    def found(train: bool, bf16: bool) -> tuple[Tensor, Tensor]:
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = layer.train(train)(given, None, None, None)
        (y.float() * weight).sum().backward()
        assert given.grad is not None
        return y.float().detach(), given.grad

    exact = found(train=True, bf16=False)
    for train in (True, False):
        for near, right in zip(found(train, bf16=True), exact, strict=True):
            torch.testing.assert_close(near, right, atol=0.03, rtol=0.03)
    q = torch.zeros(2, 3, 40, 16, dtype=torch.bfloat16)
    assert layer.train().uses_eager_attention(q, 0.0)
    assert (
        not layer.uses_eager_attention(q, 0.1)
        and not layer.uses_eager_attention(q.float(), 0.0)
        and not layer.eval().uses_eager_attention(q, 0.0)
    )


def test_sinusoids_are_the_papers() -> None:
    """Section 3.5, number by number."""
    table = sinusoidal_positions(50, 16)
    for position, i in ((0, 0), (3, 2), (49, 7)):
        angle = position / 10000 ** (2 * i / 16)
        assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_rotation_tells_distances_only() -> None:
    """The product of a rotated query and key depends on how far apart they are."""
    cosines, sines = rope_tables(ModelConfig(hidden_size=16, heads=1, positions="rope"), 40)
    q, k = torch.randn(2, 1, 1, 1, 16)
    products = [
        (
            apply_rope(q, cosines[a : a + 1], sines[a : a + 1]) * apply_rope(k, cosines[b : b + 1], sines[b : b + 1])
        ).sum()
        for a, b in ((5, 2), (30, 27))
    ]
    torch.testing.assert_close(products[0], products[1], atol=1e-4, rtol=1e-4)


def test_softcap_bounds_logits() -> None:
    """No logit leaves +-15."""
    model = make("test-gpt2", logit_softcap=15.0)
    with torch.no_grad():
        model.embedding.weight.mul_(100)
        assert model(some_tokens(model, 1, 5)).abs().max() <= 15


def test_loss_is_a_sum_that_padding_cannot_change() -> None:
    """-1 targets count neither in the sum nor in the count; smoothing is torch's."""
    logits, targets = torch.randn(2, 5, 11), torch.randint(11, (2, 5))
    total, count = cross_entropy_sum(logits, targets)
    padded = torch.cat((targets, torch.full((2, 3), -1)), 1)
    more, same = cross_entropy_sum(torch.cat((logits, torch.randn(2, 3, 11)), 1), padded)
    torch.testing.assert_close(total, more)
    assert count.item() == same.item() == 10
    smoothed, _ = cross_entropy_sum(logits, targets, label_smoothing=0.1)
    wanted = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1, reduction="sum")
    torch.testing.assert_close(smoothed, wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_model_is_unsure(name: str) -> None:
    """The first loss is near ln V, the same seed gives the same weights, and padding rows are zero."""
    model, again, other = (make(name, randomize=False) for _ in range(3))
    initialize(other, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(model.embedding.weight, other.embedding.weight)
    assert not model.embedding.weight[model.config.vocab_size :].any()
    tokens = some_tokens(model, 8, 32)
    with torch.no_grad():
        total, count = cross_entropy_sum(model(tokens[:, :-1]), tokens[:, 1:])
    assert (total / count).item() == pytest.approx(math.log(model.config.vocab_size), rel=0.15)


def test_gpt2_scales_what_writes_into_the_residual_stream() -> None:
    """0.02 / sqrt(2 layers) there, 0.02 elsewhere, 0.01 for positions."""
    model = make("test-gpt2", randomize=False, layers=8, hidden_size=256, heads=4)
    block: Any = model.blocks[3]
    assert block.attention.output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert block.feed_forward.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.positions is not None
    assert model.positions.weight.std().item() == pytest.approx(0.01, rel=0.05)
