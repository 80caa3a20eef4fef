"""Speculative decoding: a drafter proposes several tokens cheaply, and the model verifies them in one pass.

Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding". The engine samples each token from
the model's distribution with the random number that the token would have had anyway, and continues as long as the
result equals the draft. So drafts change only the time: greedy or sampled, the tokens are those that the model alone
generates with the same seed. A drafted token x that was not itself sampled is accepted with probability p(x), as in
rejection sampling; a draft model samples its tokens with the random numbers that the model will use for them.

Shapes: B rows that have not ended, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gptctl.infer.decoder import Decoder
from gptctl.infer.decoding_step import DecodingStep
from gptctl.infer.rows import Row, next_numbers
from gptctl.infer.sampling import SamplingParams, sample_tokens
from gptctl.model.device import to_device
from gptctl.model.kv_cache import KVCache

MAX_NGRAM, MIN_NGRAM = 3, 2  # how many tokens must be equal for prompt lookup to find a passage


class Draws(NamedTuple):
    """How a draft model samples: as the model will, with the random numbers that its tokens will have."""

    rows: Sequence[Row]
    params: SamplingParams

    def sample(self, logits: Tensor, offset: int) -> Tensor:
        """Return tokens (B,) for logits (B, V) of the token that is `offset` tokens after the next one."""
        numbers = next_numbers(self.rows, self.params, logits.device, offset)
        return sample_tokens(logits, self.params, numbers).clamp(min=0)

    def numbers(self, count: int) -> list[list[float]]:
        """Return the random numbers of the next `count` tokens of each row."""
        return [[row.random.peek(offset) for offset in range(count)] for row in self.rows]


class Drafter(Protocol):
    """Proposes the next tokens of rows, and keeps what it knows about each row that has not ended."""

    def start(self, texts: Sequence[list[int]], max_length: int) -> None:
        """Begin with new rows of token ids, none of which will grow longer than `max_length`."""

    def select_rows(self, rows: list[int]) -> None:
        """Keep only the given rows, in this order. A row may be given more than once."""

    def propose(self, texts: Sequence[list[int]], counts: Sequence[int], draws: Draws) -> list[list[int]]:
        """Return up to `counts` tokens that may follow each row; the rows have grown since the last call."""


class PromptLookup:
    """Proposes what followed the last tokens of a row where they occurred before in it.

    Saxena 2023, "Prompt Lookup Decoding". It costs nothing, and is right for text that repeats itself: code, lists,
    summaries with names and numbers.
    """

    def __init__(self) -> None:
        self.indexes: list[NgramIndex] = []

    def start(self, texts: Sequence[list[int]], max_length: int) -> None:
        """Begin with an empty index for each row."""
        self.indexes = [NgramIndex() for _ in texts]

    def select_rows(self, rows: list[int]) -> None:
        """Keep only the given rows. A further copy of a row gets a new index, which reads it again."""
        taken: set[int] = set()
        kept = []
        for row in rows:
            kept.append(NgramIndex() if row in taken else self.indexes[row])
            taken.add(row)
        self.indexes = kept

    def propose(self, texts: Sequence[list[int]], counts: Sequence[int], draws: Draws) -> list[list[int]]:
        """Return what followed the last tokens of each row where they occurred before."""
        return [index.following(text, count) for index, text, count in zip(self.indexes, texts, counts, strict=True)]


class NgramIndex:
    """The position at which each n-gram of a row last ended."""

    def __init__(self) -> None:
        self.ends: dict[tuple[int, ...], int] = {}
        self.indexed = 0

    def following(self, text: list[int], count: int) -> list[int]:
        """Return up to `count` tokens that followed the last n-gram of the row before; the longest n-gram is best."""
        for end in range(max(self.indexed, 1), len(text)):  # the n-gram at the end of the row is the one to look up
            for size in range(MIN_NGRAM, min(MAX_NGRAM, end) + 1):
                self.ends[tuple(text[end - size : end])] = end
        self.indexed = len(text)
        for size in range(min(MAX_NGRAM, len(text)), MIN_NGRAM - 1, -1):
            earlier = self.ends.get(tuple(text[-size:]))
            if earlier is not None:
                return text[earlier : earlier + count]
        return []


class DraftModel:
    """Proposes what a smaller model with the same tokenizer samples with the random numbers of the large one."""

    def __init__(self, model: Decoder, static: bool | None = None) -> None:
        """Take a model. `static` chooses a DecodingStep, as in Engine; by default a model on CUDA has one."""
        self.model = model
        self.static = model.like.is_cuda if static is None else static

    def start(self, texts: Sequence[list[int]], max_length: int) -> None:
        """Read the tokens of the rows."""
        self.slots = min(max_length, self.model.config.max_seq_len)
        self.fits = max(map(len, texts)) < self.slots
        self.steps: StaticDrafts | None = None
        if not self.fits:
            return
        self.cache = KVCache(self.model.config, len(texts), self.slots, self.model.like)
        longest = max(map(len, texts))
        padded = [[*text, *[0] * (longest - len(text))] for text in texts]
        lengths = [len(text) for text in texts]
        self.model.hidden_states(to_device(padded, self.model.like.device), self.cache, lengths)
        self.cache.set_lengths(lengths)

    def select_rows(self, rows: list[int]) -> None:
        """Keep only the given rows."""
        if self.steps is not None:
            self.steps.places = [self.steps.places[row] for row in rows]
        elif self.fits:
            self.cache.select_rows(rows)

    def propose(self, texts: Sequence[list[int]], counts: Sequence[int], draws: Draws) -> list[list[int]]:
        """Return what the draft model samples; nothing from the time on when a row fills its context."""
        count = max(counts, default=0)
        self.fits = self.fits and max(map(len, texts)) + count <= self.slots
        if not self.fits or not count:
            return [[] for _ in texts]
        if self.static:
            if self.steps is None:  # from now on no row is copied
                self.steps = StaticDrafts(self.model, self.cache, len(texts))
                del self.cache
            columns = self.steps.sample(texts, count, draws)
        else:
            columns = self.sample(texts, count, draws)
        return [row[:size] for row, size in zip(columns, counts, strict=True)]

    def sample(self, texts: Sequence[list[int]], count: int, draws: Draws) -> list[list[int]]:
        """Return `count` tokens for each row.

        If all drafts were accepted, the draft model has not read the last two tokens, else not the last one. It reads
        both again.
        """
        self.cache.set_lengths([len(text) - 2 for text in texts])
        tokens = to_device([text[-2:] for text in texts], self.model.like.device)
        drafts: list[Tensor] = []
        for offset in range(count):
            last = self.model.hidden_states(tokens, self.cache)[:, -1]
            tokens = draws.sample(self.model.logits(last), offset)[:, None]  # (B, 1)
            drafts.append(tokens)
        found: list[list[int]] = torch.cat(drafts, 1).tolist()
        return found


class StaticDrafts:
    """The rows of a draft model in a DecodingStep. `places` are those of the rows that have not ended."""

    def __init__(self, model: Decoder, cache: KVCache, rows: int) -> None:
        """Take the rows of a cache."""
        self.step = DecodingStep(model, rows, cache.keys.size(3), 0)
        self.step.load(cache)
        self.places = list(range(rows))

    def sample(self, texts: Sequence[list[int]], count: int, draws: Draws) -> list[list[int]]:
        """Return `count` tokens for each row; wait for the device once, after all of them."""
        params = replace(draws.params, repetition_penalty=1.0, logprobs=False)
        rows, longest = max(self.places) + 1, max(map(len, texts))
        self.step.set_next(self.spread([text[-2] for text in texts]), self.spread([len(text) - 2 for text in texts]))
        self.step.run(rows, longest - 1, params)  # reads the last token but one; what it samples is dropped
        self.step.set_next(self.spread([text[-1] for text in texts]), self.spread([len(text) - 1 for text in texts]))
        if params.temperature:
            numbers = draws.numbers(min(count, self.step.numbers.size(1)))
            of_place = dict(zip(self.places, numbers, strict=True))
            self.step.set_numbers([of_place.get(place, numbers[0]) for place in range(rows)])
        copies = [self.step.run(rows, longest + offset, params) for offset in range(count)]
        columns = [copy.wait()[:, 0].tolist() for copy in copies]
        return [[column[place] for column in columns] for place in self.places]

    def spread(self, values: Sequence[int]) -> list[int]:
        """Return a value for each place up to the last used one; 0 where a row has ended."""
        of_place = dict(zip(self.places, values, strict=True))
        return [of_place.get(place, 0) for place in range(max(self.places) + 1)]
