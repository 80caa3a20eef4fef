"""Continuous batching: rows that join and leave a running batch get the tokens that they get alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gptctl.infer import continuous
from gptctl.infer.continuous import ContinuousBatch, PromptReader
from gptctl.infer.decoder import Decoder
from gptctl.infer.engine import Engine
from gptctl.infer.row_sampling import LiveRow, RowParams, Scored, sample_live_rows
from gptctl.infer.rows import Row
from gptctl.infer.sampling import RandomNumbers, SamplingParams
from tests.model.test_gpt import FAMILIES, make

PROMPTS = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [3, 1] * 10, [9, 9, 9]]
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0}, {"temperature": 0.8, "top_p": 0.9}, {"top_k": 9, "repetition_penalty": 2.0},
]  # fmt: skip


def sampling(number: int) -> SamplingParams:
    """Settings and a length that differ from row to row."""
    return SamplingParams(max_tokens=6 + number, seed=4, logprobs=True, **SETTINGS[number % 3])


def start(batch: ContinuousBatch, number: int, **more: Any) -> tuple[LiveRow, Scored]:
    """Read a prompt and let it join."""
    reader, params = PromptReader(batch.model, PROMPTS[number]), sampling(number)
    while reader.logits is None:
        reader.read_piece()
    row = Row(number, list(PROMPTS[number]), params.max_tokens, RandomNumbers(params.seed, number))
    live = LiveRow(row, RowParams(params, top_logprobs=2, **more))
    return live, batch.join(reader, [live])[0]


def generate(decoder: Decoder, starts: dict[int, int]) -> dict[int, list[Scored]]:
    """Generate for prompts, each of which joins before a step, and leaves when it is complete."""
    batch, found = ContinuousBatch(decoder), {number: list[Scored]() for number in starts}
    for step in range(40):
        taken = list(zip(batch.rows, batch.step(), strict=True)) if batch.rows else []
        taken += [start(batch, number) for number, first in starts.items() if first == step]
        for live, scored in taken:
            live.row.append(scored.token, scored.logprob)
            found[live.row.number].append(scored)
        batch.leave([live for live in batch.rows if live.row.room == 0])
    assert not batch.rows and batch.cache.whole.keys.numel() == 0
    return found


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pieces", [256, 4])
def test_rows_are_equal_bit_for_bit_in_int8(name: str, pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probabilities, too: alone, and beside rows that join and leave. Whole prompts are as in Engine."""
    monkeypatch.setattr(continuous, "PIECE_TOKENS", pieces)
    decoder = Decoder(make(name), "int8")
    together = generate(decoder, {0: 0, 1: 1, 2: 3, 3: 3, 4: 8})
    for number in range(len(PROMPTS)):
        assert generate(decoder, {number: 0})[number] == together[number]
        if pieces == 256:
            plain = list(Engine(decoder).stream([PROMPTS[number]], sampling(number), first_sample=number))
            assert [(token.id, token.logprob) for token in plain] == [row[:2] for row in together[number]]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pieces", [256, 4])
def test_rows_have_the_same_tokens_in_fp32(name: str, pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the log-probabilities but for rounding."""
    monkeypatch.setattr(continuous, "PIECE_TOKENS", pieces)
    decoder = Decoder(make(name))
    together = generate(decoder, {0: 0, 1: 1, 2: 3, 3: 3, 4: 8})
    for number in range(len(PROMPTS)):
        plain = list(Engine(decoder).stream([PROMPTS[number]], sampling(number), first_sample=number))
        assert [token.id for token in plain] == [scored.token for scored in together[number]]
        assert [token.logprob for token in plain] == pytest.approx([row.logprob for row in together[number]], abs=1e-4)


def test_a_prompt_is_scored_whatever_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a plain forward pass: all tokens but the first, with the most likely tokens."""
    model = make("test-modern")
    prompt = PROMPTS[2]
    expected = model(torch.tensor([prompt]))[0].log_softmax(-1).detach()
    monkeypatch.setattr(continuous, "PIECE_TOKENS", 4)
    monkeypatch.setattr(continuous, "CHUNK_LOGITS", 3 * model.config.vocab_size)
    reader = PromptReader(Decoder(model), prompt, top_logprobs=2)
    while reader.logits is None:
        reader.read_piece()
    assert [scored.token for scored in reader.scores] == prompt[1:]
    for place, scored in enumerate(reader.scores):
        assert scored.logprob == pytest.approx(expected[place, scored.token].item(), abs=1e-4)
        best = expected[place].topk(2)
        assert [token for token, _ in scored.top] == best.indices.tolist()
        assert [logprob for _, logprob in scored.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_penalties_and_biases() -> None:
    """OpenAI's formula: mu - count * frequency - (count > 0) * presence, of generated tokens alone, and the bias."""
    logits = torch.tensor([[1.0, 0.9, 0.8, 0.0]])

    def next_token(generated: list[int], **more: Any) -> int:
        live = LiveRow(Row(0, [0], 9, RandomNumbers(0, 0)), RowParams(SamplingParams(temperature=0), **more))
        live.row.text += generated
        return sample_live_rows([live], logits)[0].token

    assert next_token([]) == 0
    assert next_token([0], presence_penalty=0.15) == 1
    assert next_token([0, 0, 1], presence_penalty=0.15) == 0
    assert next_token([0, 0, 1], frequency_penalty=0.15) == 2
    assert next_token([], logit_bias={3: 2.0}) == 3
    assert next_token([], logit_bias={0: -100.0}) == 1
