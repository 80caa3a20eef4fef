"""Each family of models that gptctl reads: what transformers computes with its own classes is what gptctl computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.model.files.lazy_tensor import lazily, read_all
from gptctl.model.files.tensor_files import read_tensors
from gptctl.model.folder import load_model
from gptctl.model.gpt import GPT
from gptctl.model.hf.family_lookup import closest_family
from gptctl.model.hf.tensors import import_hf_tensors
from gptctl.model.kv_cache import KVCache
from gptctl.model.save import save_model
from gptctl.model.vocab_padding import unpad_vocab
from tests.evals.small_model import tokenizer_json
from tests.model.hf.small_families import CASES, CONTEXT, VOCABULARY, save

transformers = pytest.importorskip("transformers")
TOLERANCE = 2e-5  # of the largest logit
GRADIENT_TOLERANCE = 1e-4  # of the largest gradient in a tensor
INT8_TOLERANCE = 0.1  # of the spread of the logits, root of the mean square
INT8_EXPERTS_TOLERANCE = 0.5  # where a router may choose another expert
# One case of each class is quick; the others, and the other checks, are slow.
FIRST = {model_type: case for case, (model_type, _) in reversed(list(CASES.items()))}
MIXED = [pytest.param(case, marks=() if case in FIRST.values() else pytest.mark.slow) for case in CASES]
cases = pytest.mark.parametrize("case", CASES)


def tokens_of(rows: int, length: int, seed: int = 3) -> Tensor:
    return torch.randint(0, VOCABULARY - 1, (rows, length), generator=torch.Generator().manual_seed(seed))


def close(mine: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(mine, other, atol=TOLERANCE * other.abs().max().item(), rtol=0)


@torch.no_grad()
def logits_of(model: Any, tokens: Tensor, **more: Any) -> Tensor:
    out = model(tokens, **more)
    return out if isinstance(out, Tensor) else out.logits


@torch.no_grad()
def in_pieces(model: GPT | Decoder, tokens: Tensor, first: int) -> Tensor:
    """Return the logits of tokens that are read through a cache: the first ones at once, then three, then one by one."""
    like = model.like if isinstance(model, Decoder) else model.embedding.weight
    cache = KVCache(model.config, tokens.size(0), tokens.size(1), like)
    pieces = [tokens[:, :first], tokens[:, first : first + 3], *tokens[:, first + 3 :].split(1, dim=1)]
    return torch.cat([model.logits(model.hidden_states(piece, cache)) for piece in pieces], dim=1)


@pytest.mark.parametrize("case", MIXED)
def test_transformers_computes_the_same(tmp_path: Path, case: str) -> None:
    """The whole context, which is longer than any window; through the cache of both decoders; with padding."""
    opened = save(case, tmp_path)
    model = load_model(tmp_path).model
    assert isinstance(model, GPT)
    counted = {name: unpad_vocab(name, tensor, model.config) for name, tensor in model.state_dict().items()}
    assert sum(tensor.numel() for tensor in counted.values()) == model.config.parameters()
    tokens = tokens_of(2, CONTEXT)
    wanted = logits_of(opened, tokens, use_cache=False)
    assert wanted.std() > 0.3
    close(logits_of(model, tokens), wanted)
    first = 60 if case == "phi3-longrope" else 40  # a cache holds keys of one length, see the test of 64 tokens
    close(in_pieces(model, tokens, first), wanted)
    close(in_pieces(Decoder(model), tokens, first), wanted)
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, :8] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    told = {} if opened.config.model_type == "opt" else {"position_ids": positions}
    padded = logits_of(opened, tokens[:, :30], attention_mask=mask, **told)
    close(logits_of(model, tokens[:1, 8:30])[0], padded[0, 8:])


@pytest.mark.slow
@cases
def test_what_comes_in_goes_out(tmp_path: Path, case: str) -> None:
    """An export is of the same class, with all tensors bit for bit; transformers and gptctl open it."""
    opened = save(case, tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs")
    save_model(tmp_path / "ours", loaded.model, tokenizer_json(), {})
    again, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(again) is type(opened)
    assert not any(report.values()), report
    state = again.state_dict()
    unused = 2 if opened.config.model_type == "opt" else 0  # rows of its positions that no token has
    differing = [
        name
        for name, tensor in opened.state_dict().items()
        if not torch.equal(*(t[unused:] if "embed_positions" in name else t for t in (tensor, state[name])))
    ]
    assert not differing
    tokens = tokens_of(1, CONTEXT)
    close(logits_of(again.eval(), tokens), logits_of(opened, tokens))
    back = load_model(tmp_path / "ours")
    assert back.config == loaded.config
    pairs = zip(back.model.state_dict().items(), loaded.model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


@pytest.mark.slow
@cases
def test_a_step_of_finetuning_has_the_same_gradients(tmp_path: Path, case: str) -> None:
    """The gradients of the mean loss of two rows, in every tensor."""
    opened = save(case, tmp_path)
    model, config, *_ = load_model(tmp_path)
    tokens, targets = tokens_of(2, CONTEXT), tokens_of(2, CONTEXT, seed=4)
    F.cross_entropy(opened(tokens).logits.flatten(0, 1), targets.flatten()).backward()
    sums = model(tokens, targets=targets)
    (sums.cross_entropy / sums.targets).backward()
    for parameter in opened.parameters():
        parameter.data = parameter.grad
    opened.save_pretrained(tmp_path / "gradients")  # which gives them the names on disk
    stored = read_tensors(tmp_path / "gradients" / "model.safetensors")
    wanted = read_all(import_hf_tensors(lazily(stored), closest_family(config), config))
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    for name, parameter in model.named_parameters():
        found, gradient = unpad_vocab(name, parameter.grad, config), wanted[name]
        # A bias of keys without rotary positions has no gradient but rounding errors.
        tolerance = max(GRADIENT_TOLERANCE * gradient.abs().max().item(), 1e-7 * largest)
        torch.testing.assert_close(found, gradient, atol=tolerance, rtol=0)


@pytest.mark.slow
@cases
def test_the_same_64_tokens_come_first(tmp_path: Path, case: str) -> None:
    """Greedy decoding by transformers' generate, with its cache, and by both decoders."""
    opened = save(case, tmp_path)
    model = load_model(tmp_path).model
    prompt = tokens_of(1, 12)
    settings = transformers.GenerationConfig(do_sample=False, max_new_tokens=64, pad_token_id=0)
    wanted = opened.generate(prompt, generation_config=settings)[0, 12:].tolist()
    params = SamplingParams(temperature=0, max_tokens=64)
    for engine in (Engine(model), Engine(Decoder(model)), Engine(Decoder(model), static=True)):
        assert engine.generate(prompt.tolist(), params)[0].tokens == wanted


@pytest.mark.slow
@cases
def test_int8_is_close(tmp_path: Path, case: str) -> None:
    """The logits of int8 weights, relative to the spread of those in float32."""
    save(case, tmp_path)
    model = load_model(tmp_path).model
    tokens = tokens_of(2, CONTEXT)
    exact, found = logits_of(model, tokens), in_pieces(Decoder(model, "int8"), tokens, 60)
    tolerance = INT8_EXPERTS_TOLERANCE if model.config.experts else INT8_TOLERANCE
    assert (found - exact).square().mean().sqrt() < tolerance * exact.std()
