"""Guess several tokens at once, cheaply; the model then checks them in one pass (Leviathan et al. 2023, "Fast Inference
from Transformers via Speculative Decoding").

The engine draws each token from the model's distribution with the number that the token would have had anyway, and
goes on as long as what it drew is what was guessed. So guesses change nothing but the time: greedy or sampled, the
tokens are those that the model alone gives with the same seed. A guess x that was not drawn is right with probability
p(x), as often as in rejection sampling; a draft model draws its guess with the very number that the token will have.

Shapes: B rows that still go on, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from gptctl.infer.decoder import Decoder
from gptctl.model.kv_cache import KVCache

LONGEST, SHORTEST = 3, 2  # tokens that must agree for a passage to be the same again
Choose = Callable[[Tensor, int], Tensor]  # (logits (B, V), tokens further ahead) -> tokens (B,)


class Guesser(Protocol):
    """Guesses how rows of tokens go on. It keeps what it knows of each row that still goes on."""

    def begin(self, texts: Sequence[list[int]], most: int) -> None:
        """Start on rows, none of which will be longer than `most` tokens."""

    def select(self, rows: list[int]) -> None:
        """Keep only some rows, in this order; a row may come more than once."""

    def guess(self, texts: Sequence[list[int]], counts: Sequence[int], choose: Choose) -> list[list[int]]:
        """Give up to `counts` tokens that may follow each row, which has grown since it was last seen."""


class PromptLookup:
    """Guesses that a passage goes on as it did when it last stood in the row (Saxena 2023, "Prompt Lookup Decoding").

    Free, and right for text that repeats: code, lists, summaries with names and numbers.
    """

    def __init__(self) -> None:
        self.indexes: list[Passages] = []

    def begin(self, texts: Sequence[list[int]], most: int) -> None:
        """Start with rows that nothing is known of."""
        self.indexes = [Passages() for _ in texts]

    def select(self, rows: list[int]) -> None:
        """Keep only some rows; copies of a row begin anew and read it again."""
        taken: set[int] = set()
        kept = []
        for row in rows:
            kept.append(Passages() if row in taken else self.indexes[row])
            taken.add(row)
        self.indexes = kept

    def guess(self, texts: Sequence[list[int]], counts: Sequence[int], choose: Choose) -> list[list[int]]:
        """Return what followed the row's last tokens where they stood before."""
        return [index.following(text, count) for index, text, count in zip(self.indexes, texts, counts, strict=True)]


class Passages:
    """Where each run of a few tokens of a row last ended."""

    def __init__(self) -> None:
        self.ends: dict[tuple[int, ...], int] = {}
        self.read = 0

    def following(self, text: list[int], count: int) -> list[int]:
        """Give up to `count` tokens that followed the row's last ones earlier; the longest agreement decides."""
        for end in range(max(self.read, 1), len(text)):  # the run that ends the row is what is looked for
            for size in range(SHORTEST, min(LONGEST, end) + 1):
                self.ends[tuple(text[end - size : end])] = end
        self.read = len(text)
        for size in range(min(LONGEST, len(text)), SHORTEST - 1, -1):
            earlier = self.ends.get(tuple(text[-size:]))
            if earlier is not None:
                return text[earlier : earlier + count]
        return []


class DraftModel:
    """Guesses with a smaller model of the same tokenizer, which draws with the numbers that the large one will use."""

    def __init__(self, model: Decoder) -> None:
        self.model = model

    def begin(self, texts: Sequence[list[int]], most: int) -> None:
        """Read the rows' first tokens."""
        self.slots = min(most, self.model.config.max_seq_len)
        self.fits = max(map(len, texts)) < self.slots
        if not self.fits:
            return
        self.cache = KVCache(self.model.config, len(texts), self.slots, self.model.like)
        longest = max(map(len, texts))
        padded = [[*text, *[0] * (longest - len(text))] for text in texts]
        lengths = [len(text) for text in texts]
        self.model.hidden_states(torch.tensor(padded, device=self.model.like.device), self.cache, lengths)
        self.cache.set_lengths(lengths)

    def select(self, rows: list[int]) -> None:
        """Keep only some rows."""
        if self.fits:
            self.cache.select_rows(rows)

    def guess(self, texts: Sequence[list[int]], counts: Sequence[int], choose: Choose) -> list[list[int]]:
        """Let the draft model go on; it gives no more guesses once a row fills its context."""
        count = max(counts, default=0)
        self.fits = self.fits and max(map(len, texts)) + count <= self.slots
        if not self.fits or not count:
            return [[] for _ in texts]
        # Where all guesses were right it has not seen the last two tokens, else the last one: both are read again.
        self.cache.set_lengths([len(text) - 2 for text in texts])
        tokens = torch.tensor([text[-2:] for text in texts], device=self.model.like.device)
        guessed: list[Tensor] = []
        for ahead in range(count):
            last = self.model.hidden_states(tokens, self.cache)[:, -1]
            tokens = choose(self.model.logits(last), ahead).to(last.device)[:, None]  # (B, 1)
            guessed.append(tokens)
        columns = torch.cat(guessed, 1).tolist()
        return [row[:size] for row, size in zip(columns, counts, strict=True)]
