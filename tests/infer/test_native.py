"""The kernels in C: products and attention against their definitions, alone, in batches, and with many threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptctl.core.errors import MachineError
from gptctl.infer.decoder import Decoder
from gptctl.infer.decoder_layer import AttentionSpec, DecoderLayer, slices_per_token
from gptctl.infer.engine import Engine
from gptctl.infer.native import int8_layers, library
from gptctl.infer.native.int8_layers import Int4Linear, NativeLinear
from gptctl.infer.native.library import load_library
from gptctl.infer.native.threads import kernel_threads
from gptctl.infer.quantize import LEVELS, quantize_rows
from gptctl.infer.sampling import SamplingParams
from gptctl.model.feed_forward import ACTIVATIONS
from gptctl.model.kv_cache import KVCache
from gptctl.model.norms import RMSNormPlusOne
from gptctl.model.rope import look_up_rope
from tests.infer.test_decoder import logits, needs_kernels
from tests.model.test_gpt import make, some_tokens

ROWS = (1, 2, 3, 4, 5, 7, 8, 12, 13, 25, 64)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restore the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def quantized(x: Tensor, weight: Tensor) -> Tensor:
    """Return the product of a matrix and of rows that are both rounded to int8, in double precision."""
    whole, scales = quantize_rows(weight)
    peaks = x.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    rounded = (x / peaks * LEVELS).round().double() * peaks / LEVELS
    return rounded @ (whole.double() * scales[:, None]).T


def lively(norm: nn.Module) -> nn.Module:
    """Return a norm with random weights."""
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 0.5)
    return norm


@needs_kernels
@pytest.mark.parametrize("shape", [(37, 200), (768, 768), (100, 33), (5, 1), (64, 3072)])
def test_products(shape: tuple[int, int], threads: None) -> None:
    """Of rows alone and in batches, which are the same bit for bit, with one thread and with more than processors."""
    weight, bias, residual = torch.randn(shape), torch.randn(shape[0]), torch.randn(64, shape[0])
    x = torch.randn(64, shape[1]) * torch.logspace(-4, 4, 64)[:, None]
    layer = NativeLinear(weight, bias)
    wanted = quantized(x, weight) + bias
    alone = torch.cat([layer(row[None]) for row in x])
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        for rows in ROWS:
            assert torch.equal(layer(x[:rows]), alone[:rows])
            assert torch.equal(layer(x[:rows], residual[:rows]), residual[:rows] + alone[:rows])
    error = (alone.double() - wanted).abs().amax(1) / wanted.abs().amax(1)
    assert error.max() < 1e-5


@needs_kernels
@pytest.mark.parametrize("shape", [(37, 200), (256, 768), (5, 1), (64, 3072)])
def test_products_of_4_bits(shape: tuple[int, int], threads: None) -> None:
    """Each 32 weights of an output are a scale times integers from -8 to 7, of which the largest is -8."""
    weight, bias, x = torch.randn(shape), torch.randn(shape[0]), torch.randn(64, shape[1])
    weight[0], weight[1, :5] = 0, 1e-9  # scales that are zero in float16
    layer = Int4Linear(weight, bias)
    rounded = torch.zeros_like(weight, dtype=torch.float64)
    for start in range(0, shape[1], 32):
        block = weight[:, start : start + 32]
        largest = block.gather(1, block.abs().argmax(1, keepdim=True))
        scale = (largest / -8).half().double()
        rounded[:, start : start + 32] = (block / scale).nan_to_num(0, 0, 0).round().clamp(-8, 7) * scale
    assert (rounded - weight).abs().max() < weight.abs().max() / 8
    peaks = x.abs().amax(-1, keepdim=True)
    wanted = (x / peaks * LEVELS).round().double() * peaks / LEVELS @ rounded.T + bias
    alone = torch.cat([layer(row[None]) for row in x])
    torch.testing.assert_close(alone.double(), wanted, atol=1e-4, rtol=1e-4)
    for count in (1, 3):
        torch.set_num_threads(count)
        for rows in ROWS:
            assert torch.equal(layer(x[:rows]), alone[:rows])


@needs_kernels
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_gates_and_norms(activation: str) -> None:
    """Those of the model, in front of a product and behind it."""
    weight, bias, gate, offset = torch.randn(70, 96) / 8, torch.randn(70), torch.randn(70, 96) / 8, torch.randn(70)
    x, act = torch.randn(9, 96), ACTIVATIONS[activation]
    norms = (
        nn.LayerNorm(96),
        nn.LayerNorm(96, bias=False),
        nn.LayerNorm(96, elementwise_affine=False),
        nn.RMSNorm(96, 1e-6),
        RMSNormPlusOne(96, 1e-5),
        nn.Identity(),
    )
    for norm in map(lively, norms):
        with torch.no_grad():
            normed = norm(x)
            inner = quantized(normed, weight) + bias
            plain, gated = act(inner.float()), act((quantized(normed, gate) + offset).float()) * inner.float()
        found = NativeLinear(weight, bias, norm=norm, activation=activation)(x)
        torch.testing.assert_close(found, plain, atol=2e-2, rtol=1e-2)  # a rounding may fall to the other side
        assert (found - plain).abs().median() < 1e-5
        four = Int4Linear(weight, bias, gate=(gate, offset), norm=norm, activation=activation)(x)
        assert 0 < (four - gated).abs().mean() < 0.3 * gated.std()
        found = NativeLinear(weight, bias, gate=(gate, offset), norm=norm, activation=activation)(x)
        assert (found - gated).abs().median() < 1e-5


@needs_kernels
def test_numbers_that_are_not_finite_stay_so() -> None:
    """Only in their own rows."""
    x = torch.randn(6, 40)
    x[1, 3], x[4, 39] = float("nan"), float("-inf")
    found = NativeLinear(torch.randn(20, 40), None)(x).isfinite()
    assert found.all(1).tolist() == [True, False, True, True, False, True]


ATTENTION: dict[str, dict[str, Any]] = {
    "test-gpt2": {},
    "test-modern": {},
    "grouped": {"kv_heads": 2, "heads": 4},
    "head of its own size": {"head_dim": 24},
    "partial rotary": {"partial_rotary_factor": 0.5},
    "window": {"sliding_window": 5, "layer_pattern": ("sliding", "full")},
    "softcap": {"attention_softcap": 2.0},
    "clip": {"clip_qkv": 0.5},
    "scale": {"attention_multiplier": 0.3},
    "norm of heads": {"qk_norm": True},
    "norm of the width, clipped": {"qk_norm": True, "qk_norm_over": "width", "clip_qkv": 0.5},
}


@needs_kernels
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    """That of torch's kernels, for even and ragged rows and one token or several, and the same cache."""
    model = make(name if name.startswith("test-") else "test-modern", **ATTENTION[name])
    decoder, config = Decoder(model, "int8"), model.config
    assert decoder.is_native
    width = (config.heads + 2 * config.resolved_kv_heads) * config.resolved_head_dim
    for lengths in ([9, 9, 9], [3, 14, 8]):
        for T in (1, 4):
            for number, layer in enumerate(decoder.layers):
                cache = KVCache(config, 3, 24, decoder.like)
                cache.keys.normal_(), cache.values.normal_()
                cache.set_lengths(lengths)
                ropes = look_up_rope(decoder.tables, config, cache.positions(T)) if config.positions == "rope" else {}
                rope, heads = ropes.get(config.rope_name(number)), torch.randn(3, T, width)
                before = cache.keys.clone(), cache.values.clone()
                assert isinstance(layer, DecoderLayer)
                spec = AttentionSpec(False, None, slices_per_token(lengths, T, layer.window))
                wanted, stored = layer.mix(heads, rope, cache, number, spec), (cache.keys, cache.values)
                cache.keys, cache.values = before
                spec = AttentionSpec(False, None, lengths=cache.length_tensor)
                found = layer.mix(heads.clone(), rope, cache, number, spec)
                torch.testing.assert_close(found, wanted, atol=2e-6, rtol=2e-5)
                torch.testing.assert_close((cache.keys, cache.values), stored, atol=1e-6, rtol=1e-6)


@needs_kernels
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"residual": "parallel"},
        {"residual": "parallel_shared_norm"},
        {"norm_position": "post"},
        {"norm_position": "pre_and_output"},
        {"residual_multiplier": 0.5},
        {"activation": "swiglu"},
    ],
)
def test_layers_are_those_of_torch(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused or not: the logits are nearer to those of torch's int8 kernels than these are to the model's."""
    model = make("test-gpt2", **changes)
    tokens = some_tokens(model, 3, 30)
    cuts = [19, 23, *range(24, 30)]
    found, whole = logits(Decoder(model, "int8"), tokens, cuts), logits(model, tokens, cuts)
    with monkeypatch.context() as patch:
        patch.setattr("gptctl.infer.decoder.load_library", lambda: None)
        decoder = Decoder(model, "int8")
    assert not decoder.is_native
    wanted = logits(decoder, tokens, cuts)
    assert (found - wanted).abs().mean() < 0.3 * (wanted - whole).abs().mean()


@needs_kernels
def test_a_cache_that_is_full_is_an_error() -> None:
    """Nothing is written behind its end."""
    decoder = Decoder(make("test-modern"), "int8")
    cache = KVCache(decoder.config, 2, 8, decoder.like)
    decoder.hidden_states(torch.zeros(2, 7, dtype=torch.int64), cache)
    with pytest.raises(IndexError, match="8 slots are too few for 7 \\+ 2"):
        decoder.hidden_states(torch.zeros(2, 2, dtype=torch.int64), cache)


def product_in_child(layer: NativeLinear, x: Tensor, results: Any) -> None:
    """Send a product to the parent."""
    results.put(layer(x).tolist())


@needs_kernels
def test_a_forked_child_has_threads_of_its_own(threads: None) -> None:
    """The parent's have been started before."""
    torch.set_num_threads(3)
    layer, x = NativeLinear(torch.randn(200, 64), None), torch.randn(2, 64)
    wanted, context = layer(x), multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()
    child = context.Process(target=product_in_child, args=(layer, x, results))
    child.start()
    assert torch.equal(torch.tensor(results.get()), wanted)
    child.join()
    assert torch.equal(layer(x), wanted)


@needs_kernels
def test_without_a_compiler_or_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's kernels are used, and a missing compiler is told; a cache that cannot be written costs a compilation."""
    loaded = load_library.__wrapped__
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.warns(UserWarning, match="int8 is slower than it could be: .*no-such-compiler"):
        assert loaded() is None
    monkeypatch.setenv("CC", "false")
    with pytest.warns(UserWarning, match="int8 is slower than it could be: "):
        assert loaded() is None
    assert not list(tmp_path.rglob("*.so*"))
    monkeypatch.delenv("CC")
    assert loaded() is not None
    assert [path.suffix for path in (tmp_path / "cache/kernels").iterdir()] == [".so"]
    (tmp_path / "file").touch()
    monkeypatch.setattr(library, "cache_folder", lambda: tmp_path / "file")
    assert loaded() is not None
    monkeypatch.setenv("GPTCTL_NATIVE", "0")
    assert loaded() is None


def test_int4_needs_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has none that fit."""
    monkeypatch.setattr("gptctl.infer.decoder.load_library", lambda: None)
    with pytest.raises(MachineError, match="int4 weights need a CPU with VNNI") as caught:
        Decoder(make("test-gpt2"), "int4")
    assert caught.value.hint == "use int8"


@needs_kernels
def test_the_variant_without_avx512(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives what the other one does, where the processor has both."""
    torch.manual_seed(1)
    weight, x = torch.randn(70, 96), torch.randn(13, 96)
    norm, made = lively(nn.LayerNorm(96)), []
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path))
    for features, options in ((library.AVX2, library.AVX2_OPTIONS), (library.AVX512, library.AVX512_OPTIONS)):
        if not all(torch.cpu.get_capabilities().get(name) for name in features):
            pytest.skip("the processor has only one of them")
        monkeypatch.setattr(library, "processor_options", lambda options=options: options)
        kernels = load_library.__wrapped__()
        monkeypatch.setattr(int8_layers, "load_library", lambda kernels=kernels: kernels)
        kinds = NativeLinear, Int4Linear
        made += [kind(weight, None, gate=(weight.flip(0), None), norm=norm, activation="swiglu")(x) for kind in kinds]
    for found, wanted in zip(made[:2], made[2:], strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-2, rtol=1e-2)  # a rounding may fall to the other side
        assert (found - wanted).abs().median() < 1e-5


@needs_kernels
def test_torch_has_one_thread_in_a_step(threads: None) -> None:
    """And as many as before for prompts, behind each token, and where a caller stops reading."""
    torch.set_num_threads(3)
    decoder, seen = Decoder(make("test-gpt2"), "int8"), []
    plain = decoder.pass_through
    decoder.pass_through = lambda *all: seen.append((torch.get_num_threads(), kernel_threads())) or plain(*all)  # type: ignore[method-assign]
    stream = Engine(decoder).stream([[5] * 20, [6]], SamplingParams(max_tokens=4))
    for number, _ in enumerate(stream):
        assert (torch.get_num_threads(), kernel_threads()) == (3, 3)
        if number == 5:
            break
    stream.close()
    assert (torch.get_num_threads(), kernel_threads()) == (3, 3)
    assert seen == [(3, 3), (1, 3), (1, 3)]
