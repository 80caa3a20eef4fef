"""From logits to a token: temperature, top-k, top-p and min-p, each row with its own random numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptctl.core.seeds import derive


@dataclass(frozen=True)
class Sampling:
    """How to choose. temperature 0 takes the likeliest token; top_k 0, top_p 1 and min_p 0 leave all tokens in."""

    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0


def generators(seed: int, rows: Iterable[int]) -> list[torch.Generator]:
    """Give one generator per row number: a row draws the same numbers whatever stands beside it."""
    return [torch.Generator().manual_seed(derive(seed, "sample", row)) for row in rows]


def sample(logits: Tensor, sampling: Sampling, randoms: Sequence[torch.Generator]) -> Tensor:
    """Choose one token per row of logits (B, V): (B,) int64. Ties of the likeliest go to the lowest id."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    chances = probabilities(logits, sampling).cpu()
    draws = torch.stack([torch.rand((), generator=random, dtype=torch.float64) for random in randoms])
    # The inverse of the distribution function: one number per token, whatever is filtered.
    heights = chances.double().cumsum(-1)
    chosen = torch.searchsorted(heights, draws[:, None] * heights[:, -1:], right=True)[:, 0]
    return chosen.clamp(max=logits.size(-1) - 1).to(logits.device)


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Give the distribution (B, V) that is drawn from; the filters apply in the order top-k, top-p, min-p.

    top-p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", 3.1: the fewest likeliest tokens whose
    probabilities reach p. min-p: Nguyen et al. 2024, "Turning Up the Heat": no less likely than p times the likeliest.
    """
    logits = logits.float() / sampling.temperature
    if 0 < sampling.top_k < logits.size(-1):
        smallest = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    chances = logits.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = chances.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        dropped = (before >= sampling.top_p).scatter(-1, order, before >= sampling.top_p)
        dropped.scatter_(-1, order[:, :1], False)  # the likeliest always stays
        chances = chances.masked_fill(dropped, 0)
    if sampling.min_p > 0:
        chances = chances.masked_fill(chances < sampling.min_p * chances.max(-1, keepdim=True).values, 0)
    return chances / chances.sum(-1, keepdim=True)
