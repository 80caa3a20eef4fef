"""Generation: the cache, ragged batches and stops, against the plain forward pass."""

from __future__ import annotations

import pytest
import torch

from gptctl.core.errors import UsageError
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import Sampling, generators, sample
from gptctl.model.gpt import GPT
from tests.model.test_gpt import FAMILIES, make

PROMPTS = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]


def plain(model: GPT, prompt: list[int], sampling: Sampling, row: int) -> list[int]:
    """Generate without a cache, one prompt, the whole sequence again for each token."""
    tokens, random = list(prompt), generators(sampling.seed, [row])
    with torch.no_grad():
        for _ in range(sampling.max_tokens):
            tokens.append(int(sample(model(torch.tensor([tokens]))[:, -1], sampling, random).item()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_ragged_batch_with_cache_equals_single_runs_without(name: str, temperature: float) -> None:
    """Token for token, greedy and sampled."""
    model = make(name)
    sampling = Sampling(max_tokens=12, temperature=temperature, seed=4)
    together = Engine(model).generate(PROMPTS, sampling)
    assert [made.tokens for made in together] == [
        plain(model, prompt, sampling, row) for row, prompt in enumerate(PROMPTS)
    ]
    assert together == Engine(model).generate(PROMPTS, sampling)
    assert [made.finish for made in together] == ["length"] * 3
    assert Engine(model).generate(PROMPTS[1:], sampling, first_row=1) == together[1:]


def test_stop_tokens_end_a_row_and_leave_the_others_going() -> None:
    """The stop token is not part of the sample; the other rows are as without it."""
    engine, sampling = Engine(make("tiny-modern")), Sampling(max_tokens=20, seed=1)
    free = engine.generate(PROMPTS, sampling)
    stop = free[1].tokens[4]
    made = engine.generate(PROMPTS, sampling, stop_ids={stop})
    assert made[1].finish == "stop"
    for row, was in zip(made, free, strict=True):
        cut = was.tokens.index(stop) if stop in was.tokens else len(was.tokens)
        assert row.tokens == was.tokens[:cut]


def test_a_full_context_ends_a_row() -> None:
    """64 tokens in all, whatever max_tokens says; another seed gives other text."""
    engine = Engine(make("tiny-gpt2"))
    made = engine.generate([[1] * 60, [1] * 2], Sampling(max_tokens=1000))
    assert [len(row.tokens) for row in made] == [4, 62]
    assert {row.finish for row in made} == {"length"}
    assert engine.generate([[1] * 2], Sampling(seed=1))[0].tokens != made[1].tokens


def test_stream_gives_tokens_as_they_come() -> None:
    """Step by step, all rows of a step before the next."""
    engine, sampling = Engine(make("tiny-gpt2")), Sampling(max_tokens=3, temperature=0)
    assert [row for row, _ in engine.stream(PROMPTS, sampling)] == [0, 1, 2] * 3
    assert list(engine.stream([], sampling)) == []


@pytest.mark.parametrize("prompt", [[], [1] * 64])
def test_prompts_that_nothing_can_follow(prompt: list[int]) -> None:
    """Exit 2."""
    with pytest.raises(UsageError, match=r"prompt 2"):
        Engine(make("tiny-gpt2")).generate([[1], prompt], Sampling())
