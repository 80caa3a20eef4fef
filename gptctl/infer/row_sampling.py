"""Sampling of rows that each have settings of their own, as requests to a server have.

A row's token and log-probabilities do not depend on the other rows. Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gptctl.infer.rows import Row, next_numbers
from gptctl.infer.sampling import SamplingParams, apply_repetition_penalty, sample_tokens
from gptctl.model.device import to_device


@dataclass(frozen=True)
class RowParams:
    """How the tokens of one row are chosen, and what is told about them.

    `presence_penalty` is subtracted from the logits of tokens that were generated before, `frequency_penalty` once for
    each time that they were. `logit_bias` is added to the logits of its tokens. `top_logprobs` is the number of most
    likely tokens that are returned; None returns no log-probabilities at all.
    """

    sampling: SamplingParams
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None


class Scored(NamedTuple):
    """A token, ln p of it, and the most likely tokens with theirs, under the model itself: before any setting."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class LiveRow:
    """A row that is being generated, with its settings."""

    def __init__(self, row: Row, params: RowParams) -> None:
        self.row, self.params = row, params
        self.prompt_length = len(row.text)

    def changes_logits(self) -> bool:
        """Return whether anything but temperature and filters changes the distribution."""
        params = self.params
        penalties = params.presence_penalty or params.frequency_penalty
        return bool(penalties or params.logit_bias or params.sampling.repetition_penalty != 1)

    def adjust(self, logits: Tensor) -> Tensor:
        """Return the logits (V,) of the row after its penalties and biases."""
        params, text = self.params, self.row.text
        if params.sampling.repetition_penalty != 1:
            seen = torch.zeros(1, len(logits), dtype=torch.bool, device=logits.device)
            seen[0, to_device(text, logits.device)] = True
            logits = apply_repetition_penalty(logits[None], seen, params.sampling.repetition_penalty)[0]
        changes = dict(params.logit_bias)
        if params.presence_penalty or params.frequency_penalty:
            for token, count in Counter(text[self.prompt_length :]).items():
                penalty = params.presence_penalty + params.frequency_penalty * count
                changes[token] = changes.get(token, 0.0) - penalty
        if not changes:
            return logits
        places = to_device(list(changes), logits.device)
        return logits.index_add(0, places, to_device(list(changes.values()), logits.device, logits.dtype))


def sample_live_rows(rows: Sequence[LiveRow], logits: Tensor) -> list[Scored]:
    """Sample the next token of each row from logits (B, V). Rows with equal settings are sampled together."""
    groups: dict[SamplingParams, list[int]] = {}
    for place, live in enumerate(rows):
        common = replace(live.params.sampling, max_tokens=0, seed=0, stop=(), repetition_penalty=1.0)
        groups.setdefault(common, []).append(place)
    tokens = [0] * len(rows)
    for params, places in groups.items():
        scores = logits if len(places) == len(rows) else logits[places]
        if any(rows[place].changes_logits() for place in places):
            scores = torch.stack([rows[place].adjust(row) for place, row in zip(places, scores, strict=True)])
        numbers = next_numbers([rows[place].row for place in places], params, logits.device)
        for place, token in zip(places, sample_tokens(scores, params, numbers).tolist(), strict=True):
            tokens[place] = token
    return [
        Scored(token) if live.params.top_logprobs is None else score(row, token, live.params.top_logprobs)
        for live, row, token in zip(rows, logits, tokens, strict=True)
    ]


def score(logits: Tensor, token: int, count: int) -> Scored:
    """Return a token with ln p of it and of the `count` most likely ones under logits (V,)."""
    return score_tokens(logits[None], [token], count)[0]


def score_tokens(logits: Tensor, tokens: Sequence[int], count: int) -> list[Scored]:
    """Return tokens (B,) with ln p of each, and of the `count` most likely ones, under logits (B, V)."""
    chosen = to_device(tokens, logits.device).clamp(min=0)[:, None]
    normalizer = logits.logsumexp(-1, keepdim=True)
    found = (logits.gather(1, chosen) - normalizer)[:, 0].tolist()
    if not count:
        return [Scored(token, logprob) for token, logprob in zip(tokens, found, strict=True)]
    largest = logits.topk(min(count, logits.size(1)), dim=-1)
    ids, values = largest.indices.tolist(), (largest.values - normalizer).tolist()
    tops = [tuple(zip(*pair, strict=True)) for pair in zip(ids, values, strict=True)]
    return [Scored(*parts) for parts in zip(tokens, found, tops, strict=True)]
