"""Speculative decoding changes nothing but the time: token for token, and in distribution."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.rows import Row
from gptctl.infer.sampling import RandomNumbers, SamplingParams, sampling_distribution
from gptctl.infer.speculative import Drafter, DraftModel, Draws, NgramIndex, PromptLookup
from tests.model.test_gpt import FAMILIES, make

PROMPTS = [[5, 9, 2, 7, 5, 9], [7], [1, 2, 3, 1, 2, 3, 1, 2]]
DRAFTERS = ("lookup", "draft", "itself")


def drafter(kind: str, model: Any) -> Drafter:
    """Return a drafter: the draft is a smaller model of the same vocabulary, or the model itself, which is always right."""
    if kind == "lookup":
        return PromptLookup()
    return DraftModel(
        Decoder(model if kind == "itself" else make("test-gpt2", layers=1, vocab_size=model.config.vocab_size))
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", DRAFTERS)
@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {"temperature": 0.7}, {"top_k": 5, "repetition_penalty": 1.5}]
)
def test_tokens_are_those_without_drafts(name: str, kind: str, settings: Any) -> None:
    """Three ragged rows until their context is full, greedy and sampled, with a row that stops early."""
    model = make(name, vocab_size=257)
    sampling = SamplingParams(max_tokens=100, seed=4, **settings)
    plain = Engine(Decoder(model)).generate(PROMPTS, sampling)
    stop = plain[2].tokens[5]
    wanted = Engine(Decoder(model)).generate(PROMPTS, sampling, {stop})
    assert Engine(Decoder(model), drafter(kind, model), 4).generate(PROMPTS, sampling) == plain
    assert Engine(Decoder(model), drafter(kind, model), 4).generate(PROMPTS, sampling, {stop}) == wanted


def test_drafts_save_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is its own draft is right each time: 5 tokens a pass; one that repeats itself is looked up."""
    model = make("test-gpt2")
    for kind, most in (("itself", 9), ("lookup", 39)):
        decoder = Decoder(model)
        passes, plain_pass = [], decoder.hidden_states
        monkeypatch.setattr(
            decoder, "hidden_states", lambda *given, f=plain_pass, seen=passes: seen.append(1) or f(*given)
        )
        made = Engine(decoder, drafter(kind, model), 4).generate(
            PROMPTS[:1], SamplingParams(max_tokens=40, temperature=0)
        )
        assert len(made[0].tokens) == 40
        assert len(passes) <= most


@pytest.mark.parametrize("kind", DRAFTERS)
def test_samples_keep_the_distribution(kind: str) -> None:
    """Chi-square of the second and third token over 4,000 samples, against the model's probabilities."""
    model = make("test-gpt2", vocab_size=6)
    sampling = SamplingParams(max_tokens=3, temperature=0.8, top_p=0.95)
    prompt, rows = [1, 2, 3, 1, 2], 4000
    found: Counter[tuple[int, ...]] = Counter()
    drawn: list[list[int]] = [[] for _ in range(rows)]
    small = make("test-gpt2", vocab_size=6, layers=1) if kind == "draft" else model
    drafts = PromptLookup() if kind == "lookup" else DraftModel(Decoder(small))
    for token in Engine(Decoder(model), drafts, 2).stream([prompt], sampling, samples_per_prompt=rows):
        drawn[token.row].append(token.id)
    found.update(map(tuple, drawn))
    wanted: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        texts = torch.tensor([[*prompt, *text] for text in wanted])
        with torch.no_grad():
            chances = sampling_distribution(model(texts)[:, -1], sampling).double()
        wanted = {
            (*text, token): chance * p
            for (text, chance), row in zip(wanted.items(), chances.tolist(), strict=True)
            for token, p in enumerate(row)
            if p > 0
        }
    assert set(found) <= set(wanted)
    large = [text for text, chance in wanted.items() if chance * rows >= 5]
    counts = [found[text] for text in large]
    expected = [wanted[text] * rows for text in large]
    rest = rows - sum(expected)
    if rest > 5:
        counts, expected = [*counts, rows - sum(counts)], [*expected, rest]
    scale = sum(counts) / sum(expected)
    assert len(large) > 10
    assert chisquare(counts, [value * scale for value in expected]).pvalue > 1e-3


def test_ngrams_are_found_where_they_last_occurred() -> None:
    """The longest agreement first, then the latest; nothing where nothing repeats."""
    index = NgramIndex()
    text = [1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]
    assert index.following(text, 3) == [4, 9, 2]
    assert index.following([*text, 4], 2) == [9, 2]
    assert index.following([*text, 4, 7], 2) == []
    assert NgramIndex().following([8, 2, 3, 7, 2, 3], 9) == [7, 2, 3]
    assert NgramIndex().following([1], 3) == []


@pytest.mark.parametrize("params", [SamplingParams(temperature=0), SamplingParams(temperature=0.7, top_k=9)])
def test_drafts_of_a_static_cache_are_those_of_a_growing_one(params: SamplingParams) -> None:
    """Two rows of each prompt, of which some drafts are rejected and one row ends."""
    decoder = Decoder(make("test-modern"))
    found = []
    for static in (False, True):
        model = DraftModel(decoder, static)
        model.start([list(prompt) for prompt in PROMPTS], 50)
        rows = [Row(2 * i + j, [*prompt, 4 + j], 9, RandomNumbers(1, 2 * i + j)) for i, prompt in enumerate(PROMPTS)
                for j in range(2)]  # fmt: skip
        model.select_rows([0, 0, 1, 1, 2, 2])
        drafts = [model.propose([row.text for row in rows], [3] * 6, Draws(rows, params))]
        for row, draft in zip(rows, drafts[0], strict=True):
            for token in draft[: row.number % 4]:  # up to all three, and one more that was not drafted
                row.append(token, 0.0)
            row.append(8, 0.0)
        model.select_rows([0, 2, 3, 4, 5])
        del rows[1]
        drafts.append(model.propose([row.text for row in rows], [3, 2, 3, 1, 3], Draws(rows, params)))
        found.append(drafts)
    assert found[0] == found[1]
    assert [len(draft) for draft in found[0][1]] == [3, 2, 3, 1, 3]
