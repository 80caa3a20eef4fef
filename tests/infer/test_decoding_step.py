"""The pass that a GPU replays: it can be compiled as one graph, and reads a static cache as it would a growing one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gptctl.infer.decoder import Decoder
from gptctl.infer.decoding_step import DecodingStep, power_of_two
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.speculative import DraftModel, PromptLookup
from tests.infer.test_engine import PROMPTS
from tests.model.test_gpt import FAMILIES, make

EVERYTHING = SamplingParams(top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.3, logprobs=True)


def tokens(engine: Engine, sampling: SamplingParams, stop: set[int]) -> list[Any]:
    """Return ids and log-probabilities of two samples of each prompt."""
    found: list[list[tuple[int, float]]] = [[] for _ in range(2 * len(PROMPTS))]
    for row, token, logprob in engine.stream(PROMPTS, sampling, stop, samples_per_prompt=2):
        found[row].append((token, pytest.approx(logprob, abs=1e-4)))
    return found


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 9, "repetition_penalty": 2, "logprobs": True}])
def test_tokens_are_those_of_a_growing_cache(name: str, settings: Any) -> None:
    """Ragged rows, and rows that stop early, until few enough are left to be moved together; the cache is used again."""
    decoder, sampling = Decoder(make(name)), SamplingParams(max_tokens=14, seed=4, **settings)
    dynamic, static = Engine(decoder, static=False), Engine(decoder, static=True)
    free = tokens(dynamic, sampling, set())
    assert tokens(static, sampling, set()) == free
    stop = {row[3][0] for row in free[:4]}
    assert tokens(static, sampling, stop) == tokens(dynamic, sampling, stop)
    assert len(static.idle_steps) == 1


@pytest.mark.parametrize("drafted", [False, True])
def test_drafts_change_nothing(drafted: bool) -> None:
    """Ragged rows until the context is full, with more random numbers than are sent at a time."""
    model = make("test-modern")
    decoder = Decoder(model)
    sampling = SamplingParams(max_tokens=100, temperature=0.7, repetition_penalty=1.5, seed=2)
    engines = [
        Engine(decoder, DraftModel(decoder, static) if drafted else PromptLookup(), 4, static=static)
        for static in (True, False)
    ]
    stop = {Engine(decoder).generate(PROMPTS, sampling)[0].tokens[7]}
    assert tokens(engines[0], sampling, stop) == tokens(engines[1], sampling, stop)


def test_generators_may_take_turns() -> None:
    """Two streams of one engine have a step each, and give back what they had when they are closed."""
    engine, sampling = Engine(Decoder(make("test-gpt2")), static=True), SamplingParams(max_tokens=9, seed=1)
    alone = [list(engine.stream(PROMPTS, sampling, first_sample=n)) for n in (0, 9)]
    together = [engine.stream(PROMPTS, sampling, first_sample=n) for n in (0, 9)]
    assert list(zip(*together, strict=True)) == list(zip(*alone, strict=True))
    for stream in together:
        stream.close()
    assert len(engine.idle_steps) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_draft_tokens"), [*((name, 0) for name in FAMILIES), ("test-gpt3", 2)])
def test_a_step_is_one_graph(name: str, num_draft_tokens: int) -> None:
    """torch.compile finds no break, with all options of sampling, for one token of a row and for drafts."""
    decoder = Decoder(make(name, layers=2))
    step = DecodingStep(decoder, 2, 100, num_draft_tokens)
    step.seen = torch.zeros(2, decoder.config.vocab_size, dtype=torch.bool)
    with torch.no_grad():
        found = torch._dynamo.explain(step.compute)(2, 128, EVERYTHING)
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.slow
def test_a_compiled_step_is_compiled_once() -> None:
    """Lengths and tokens change from step to step, and nothing is compiled again; results are the same."""
    decoder = Decoder(make("test-modern"))
    steps = [DecodingStep(decoder, 2, 100, 0) for _ in range(2)]
    with torch.no_grad():
        compiled = torch.compile(steps[0].compute, backend="eager", fullgraph=True, dynamic=False)
        params = SamplingParams(temperature=0)
        compiled(2, 128, params), steps[1].compute(2, 128, params)
        with torch.compiler.set_stance("fail_on_recompile"):
            for _ in range(20):
                assert torch.equal(compiled(2, 128, params), steps[1].compute(2, 128, params))


def test_powers_of_two() -> None:
    """The sizes of batches that graphs exist for."""
    assert [power_of_two(n) for n in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]
