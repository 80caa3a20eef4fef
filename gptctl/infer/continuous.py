"""Continuous batching: rows join and leave a running batch between its steps, as requests to a server come and go.

Yu et al. 2022, "Orca: A Distributed Serving System for Transformer-Based Generative Models", 3.1. A prompt is read by
itself, in pieces of PIECE_TOKENS tokens, so that its result depends on no other row; running rows go on between the
pieces. In int8 a row's tokens and log-probabilities are the same bit for bit alone and in any batch. In fp32 and bf16
sums of matrix products are ordered by the size of the batch, which changes the last bits of logits.

Shapes: B rows, T tokens of a piece, C hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gptctl.infer.decoder import Decoder
from gptctl.infer.row_sampling import LiveRow, Scored, sample_live_rows, score_tokens
from gptctl.infer.shared_cache import SharedCache
from gptctl.model.device import to_device
from gptctl.model.kv_cache import KVCache

PIECE_TOKENS = 256  # the pieces of a prompt depend on nothing else, or its result would depend on other requests
CHUNK_LOGITS = 2**24  # logits of a scored prompt in memory at once, 64 MiB


class PromptReader:
    """Reads one prompt, a piece at a time. With `top_logprobs` its own tokens are scored: all but the first."""

    def __init__(self, model: Decoder, prompt: Sequence[int], top_logprobs: int | None = None) -> None:
        """Take a prompt of at least one token."""
        self.model, self.prompt, self.top_logprobs = model, list(prompt), top_logprobs
        self.cache = KVCache(model.config, 1, len(prompt), model.like)
        self.scores: list[Scored] = []
        self.logits: Tensor | None = None  # (1, V) after the last token

    @torch.inference_mode()
    def read_piece(self) -> int:
        """Read the next piece, and return its number of tokens."""
        start = self.cache.lengths[0]
        piece = self.prompt[start : start + PIECE_TOKENS]
        tokens = to_device([piece], self.model.like.device)
        hidden = self.model.hidden_states(tokens, self.cache, [len(piece)])  # (1, T, C)
        if self.top_logprobs is not None:
            self.score_piece(hidden[0], self.prompt[start + 1 : start + 1 + len(piece)], self.top_logprobs)
        if start + len(piece) == len(self.prompt):
            self.logits = self.model.logits(hidden[:, -1:])[:, 0]
        return len(piece)

    def score_piece(self, hidden: Tensor, targets: Sequence[int], count: int) -> None:
        """Score the tokens that follow hidden states (T, C). The last state of a prompt has no target."""
        step = max(1, CHUNK_LOGITS // self.model.config.vocab_size)
        for start in range(0, len(targets), step):
            part = targets[start : start + step]
            self.scores += score_tokens(self.model.logits(hidden[start : start + len(part)]), part, count)


class ContinuousBatch:
    """The rows that are being generated, and their keys and values."""

    def __init__(self, model: Decoder) -> None:
        """Begin without rows."""
        self.model = model
        self.rows: list[LiveRow] = []
        self.cache = SharedCache(model.config, model.like)

    @torch.inference_mode()
    def join(self, reader: PromptReader, rows: Sequence[LiveRow]) -> list[Scored]:
        """Add samples of a prompt that was read to its end, and return the first token of each."""
        assert reader.logits is not None
        for _ in rows:
            self.cache.add_row(reader.cache)
        self.rows += rows
        return self.sample(rows, reader.logits.expand(len(rows), -1))

    @torch.inference_mode()
    def step(self) -> list[Scored]:
        """Return the next token of each row, in their order."""
        self.cache.make_room()
        tokens = to_device([[live.row.text[-1]] for live in self.rows], self.model.like.device)
        with self.model.step_threads():
            logits = self.model.logits(self.model.hidden_states(tokens, self.cache))[:, -1]  # (B, V)
            return self.sample(self.rows, logits)

    @torch.inference_mode()
    def sample(self, rows: Sequence[LiveRow], logits: Tensor) -> list[Scored]:
        """Sample the next tokens from logits (B, V). The rows grow when the tokens are appended to them."""
        return sample_live_rows(rows, logits)

    @torch.inference_mode()
    def leave(self, leaving: Collection[LiveRow]) -> None:
        """Remove rows, which frees their places for others."""
        places = {place for place, live in enumerate(self.rows) if live in leaving}
        if places:
            self.rows = [self.rows[place] for place in self.cache.remove_rows(places)]
