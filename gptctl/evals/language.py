"""How well a model predicts text: bits per byte, perplexity, and which tokens are scored with which context."""

from __future__ import annotations

import math
from typing import NamedTuple

from gptctl.core.errors import DataError, UsageError


class Window(NamedTuple):
    """One forward pass: inputs start_input..end_input - 1 are read, targets first_target..end_input are scored.

    Input i predicts token i + 1. Input -1 is the beginning-of-text token that stands before token 0.
    """

    start_input: int
    end_input: int
    first_target: int


def bits_per_byte(nats_sum: float, bytes_sum: int) -> float | None:
    """Give the bits needed per byte of UTF-8 text; None for no bytes.

    Both sums run over all documents: the mean of the documents' own ratios is another, wrong number. Unlike perplexity
    it compares across tokenizers. Raises DataError where `nats_sum` is not finite.
    """
    _require_finite(nats_sum)
    return nats_sum / (math.log(2) * bytes_sum) if bytes_sum else None


def perplexity(nats: float, tokens: int) -> float | None:
    """Give exp(nats per token), comparable for the same tokenizer only; None for no tokens or where no float holds it.

    Raises DataError where `nats` is not finite.
    """
    _require_finite(nats)
    try:
        return math.exp(nats / tokens) if tokens else None
    except OverflowError:
        return None


def byte_perplexity(bits_per_byte: float) -> float:
    """Give 2^(bits per byte), which compares across tokenizers."""
    return math.exp2(bits_per_byte)


def windows(n_tokens: int, context: int, stride: int) -> list[Window]:
    """Plan the forward passes that score each of `n_tokens` tokens exactly once.

    The first window starts before token 0 and scores `context` tokens; each later one scores the next `stride` tokens
    (fewer at the end) with as many tokens on their left as fit into `context` inputs. A small stride gives more
    context and costs more. Raises UsageError unless 1 <= stride <= context.
    """
    if context < 1:
        raise UsageError(f"context is {context}, at least 1 token is needed", "give a context of 1 or more")
    if not 1 <= stride <= context:
        raise UsageError(
            f"stride is {stride}, outside 1..{context} (the context)", "half the context is usual for reports"
        )
    planned: list[Window] = []
    scored = 0
    while scored < n_tokens:
        until = min(n_tokens, scored + stride if planned else context)
        planned.append(Window(max(-1, until - 1 - context), until - 1, scored))
        scored = until
    return planned


def _require_finite(nats: float) -> None:
    if not math.isfinite(nats):
        raise DataError(
            "the model gives a token a log-probability that is not a finite number",
            "check the weights with: gptctl doctor MODEL",
        )
