"""Generation: the cache, ragged batches and stops, against the plain forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gptctl.core.errors import UsageError
from gptctl.infer.decoder import Decoder, WeightFormat
from gptctl.infer.engine import Engine, Token
from gptctl.infer.sampling import RandomNumbers, SamplingParams, apply_repetition_penalty, sample_tokens
from gptctl.infer.speculative import Drafter, DraftModel, PromptLookup
from gptctl.model.gpt import GPT
from tests.infer.test_decoder import needs_kernels
from tests.model.test_gpt import FAMILIES, make

PROMPTS = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]


def plain(model: GPT, prompt: list[int], sampling: SamplingParams, row: int) -> list[int]:
    """Generate without a cache, one prompt, the whole sequence again for each token."""
    tokens, draws = list(prompt), RandomNumbers(sampling.seed, row)
    with torch.no_grad():
        for _ in range(sampling.max_tokens):
            logits = model(torch.tensor([tokens]))[:, -1]
            seen = torch.zeros(logits.shape, dtype=torch.bool)
            seen[0, tokens] = True
            tokens.append(
                int(
                    sample_tokens(
                        apply_repetition_penalty(logits, seen, sampling.repetition_penalty),
                        sampling,
                        torch.tensor([draws.peek()], dtype=torch.float64),
                    )
                )
            )
            draws.advance()
    return tokens[len(prompt) :]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 0.8}, {"top_k": 9, "repetition_penalty": 2}])
@pytest.mark.parametrize("arrange", [lambda model: model, Decoder])
def test_a_ragged_batch_with_cache_equals_single_runs_without(name: str, settings: Any, arrange: Any) -> None:
    """Token for token, greedy and sampled."""
    model = make(name)
    sampling = SamplingParams(max_tokens=12, seed=4, **settings)
    together = Engine(arrange(model)).generate(PROMPTS, sampling)
    assert [made.tokens for made in together] == [
        plain(model, prompt, sampling, row) for row, prompt in enumerate(PROMPTS)
    ]
    assert together == Engine(model).generate(PROMPTS, sampling)
    assert [made.finish_reason for made in together] == ["length"] * 3
    assert Engine(model).generate(PROMPTS[1:], sampling, first_sample=1) == together[1:]


def test_stop_tokens_end_a_row_and_leave_the_others_going() -> None:
    """The stop token is not part of the sample; the other rows are as without it."""
    engine, sampling = Engine(make("test-modern")), SamplingParams(max_tokens=20, seed=1)
    free = engine.generate(PROMPTS, sampling)
    stop = free[1].tokens[4]
    made = engine.generate(PROMPTS, sampling, stop_ids={stop})
    assert made[1].finish_reason == "stop"
    for row, was in zip(made, free, strict=True):
        cut = was.tokens.index(stop) if stop in was.tokens else len(was.tokens)
        assert row.tokens == was.tokens[:cut]


def test_a_full_context_ends_a_row() -> None:
    """64 tokens in all, whatever max_tokens says; another seed gives other text."""
    engine = Engine(make("test-gpt2"))
    made = engine.generate([[1] * 60, [1] * 2], SamplingParams(max_tokens=1000))
    assert [len(row.tokens) for row in made] == [4, 62]
    assert {row.finish_reason for row in made} == {"length"}
    assert engine.generate([[1] * 2], SamplingParams(seed=1))[0].tokens != made[1].tokens


def test_stream_gives_tokens_as_they_come() -> None:
    """Step by step, all rows of a step before the next."""
    engine, sampling = Engine(make("test-gpt2")), SamplingParams(max_tokens=3, temperature=0)
    assert [row for row, _, _ in engine.stream(PROMPTS, sampling)] == [0, 1, 2] * 3
    assert list(engine.stream([], sampling)) == []


@pytest.mark.parametrize("prompt", [[], [1] * 64])
def test_prompts_that_nothing_can_follow(prompt: list[int]) -> None:
    """Exit 2."""
    with pytest.raises(UsageError, match=r"prompt 2"):
        Engine(make("test-gpt2")).generate([[1], prompt], SamplingParams())


@pytest.mark.parametrize("weights", ["int8", pytest.param("int4", marks=needs_kernels)])
@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_equal_bit_for_bit_in_integers(name: str, weights: WeightFormat) -> None:
    """Log-probabilities, too: alone, ragged beside others, many at once, and with drafts verified in one pass."""
    model = make(name)
    decoder, sampling = Decoder(model, weights), SamplingParams(max_tokens=40, seed=3, temperature=0.5, logprobs=True)
    prompts = [*PROMPTS, [3, 1] * 10, [9, 9, 9]]

    def rows(drafter: Drafter | None, given: list[list[int]], first: int) -> list[list[Token]]:
        engine = Engine(decoder, drafter, 3)
        found: list[list[Token]] = [[] for _ in given]
        for token in engine.stream(given, sampling, first_sample=first):
            found[token.row].append(token._replace(row=0))
        return found

    together = rows(None, prompts, 0)
    assert [rows(None, [prompt], row)[0] for row, prompt in enumerate(prompts)] == together
    assert rows(PromptLookup(), prompts, 0) == together
    assert rows(DraftModel(Decoder(model)), prompts, 0) == together
    assert rows(DraftModel(decoder), prompts[3:4], 3) == together[3:4]


def test_samples_share_their_prompts_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three samples of each prompt are those of three prompts, and the prompts are read once."""
    decoder = Decoder(make("test-modern"))
    sampling = SamplingParams(max_tokens=9, seed=2)
    apart = Engine(decoder).generate([prompt for prompt in PROMPTS for _ in range(3)], sampling)
    sizes, plain_pass = [], decoder.hidden_states
    monkeypatch.setattr(
        decoder, "hidden_states", lambda tokens, *more: sizes.append(tokens.numel()) or plain_pass(tokens, *more)
    )
    rows: list[list[int]] = [[] for _ in range(9)]
    for token in Engine(decoder).stream(PROMPTS, sampling, samples_per_prompt=3):
        rows[token.row].append(token.id)
    assert rows == [sample.tokens for sample in apart]
    assert len({tuple(row) for row in rows}) == 9
    assert sizes == [3 * 11] + [9] * 8


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_log_probabilities_are_the_models(temperature: float) -> None:
    """ln p of each token at temperature 1, from the plain forward pass."""
    model = make("test-gpt2")
    sampling = SamplingParams(max_tokens=8, temperature=temperature, top_k=5, repetition_penalty=1.3, logprobs=True)
    tokens = list(Engine(Decoder(model)).stream(PROMPTS, sampling))
    for row, prompt in enumerate(PROMPTS):
        mine = [token for token in tokens if token.row == row]
        text = [*prompt, *(token.id for token in mine)]
        with torch.no_grad():
            whole = model(torch.tensor([text])).log_softmax(-1)[0]
        wanted = [whole[len(prompt) + i - 1, token.id].item() for i, token in enumerate(mine)]
        assert [token.logprob for token in mine] == pytest.approx(wanted, abs=1e-4)


def test_the_caller_may_end_a_row() -> None:
    """At once, and the other rows go on."""
    sampling = SamplingParams(max_tokens=10, seed=1)
    engine = Engine(make("test-gpt2"))
    counts = [0, 0, 0]
    for token in engine.stream(PROMPTS, sampling, should_stop=lambda row, _: row == 1 and counts[1] == 4):
        counts[token.row] += 1
    assert counts == [10, 4, 10]
