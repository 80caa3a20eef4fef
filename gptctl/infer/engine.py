"""Generate with a preallocated key-value cache, many prompts of any lengths at once.

Shapes: B rows that still go on, T tokens of a row in one pass, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gptctl.core.errors import UsageError
from gptctl.infer.decoder import Decoder
from gptctl.infer.sampling import Draws, SamplingParams, choose, penalized
from gptctl.infer.speculative import Guesser
from gptctl.model.gpt import GPT
from gptctl.model.kv_cache import KVCache

Ended = Callable[[int, int], bool]  # (row, token) -> whether the row ends with it


class Token(NamedTuple):
    """One token of a row; `logprob` is ln p under the model itself, before penalty, temperature and filters."""

    row: int
    id: int
    logprob: float


@dataclass
class Sample:
    """What came after one prompt. finish: "stop" at a stop token (which is not among the tokens), "length" after
    max_tokens or where prompt and tokens fill the model's context."""

    tokens: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] = "length"


@dataclass
class Row:
    """One sample under way: the prompt and what has followed, how many more may, and its random numbers."""

    number: int
    text: list[int]
    room: int
    draws: Draws


class Engine:
    """A model ready to generate on the device it is on."""

    def __init__(self, model: GPT | Decoder, guesser: Guesser | None = None, ahead: int = 0) -> None:
        """Take a model and, to be faster, what guesses up to `ahead` tokens for it to check."""
        self.model = model.eval() if isinstance(model, GPT) else model
        self.like = model.embedding.weight if isinstance(model, GPT) else model.like
        self.context = model.config.max_seq_len
        self.guesser = guesser
        self.ahead = ahead if guesser else 0

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        stop_ids: Collection[int] = (),
        first_row: int = 0,
    ) -> list[Sample]:
        """Collect what `stream` gives, one Sample per prompt."""
        samples = [Sample() for _ in prompts]
        for row, token in self.stream(prompts, sampling, stop_ids, first_row):
            if token in stop_ids:
                samples[row].finish = "stop"
            else:
                samples[row].tokens.append(token)
        return samples

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        stop_ids: Collection[int] = (),
        first_row: int = 0,
    ) -> Iterator[tuple[int, int]]:
        """Yield (row, token) as they come; a stop token comes too, as the last of its row."""
        for row, token, _ in self.tokens(prompts, sampling, stop_ids, first_row):
            yield row, token

    @torch.inference_mode()
    def tokens(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        stop_ids: Collection[int] = (),
        first_row: int | Sequence[int] = 0,
        copies: int = 1,
        ended: Ended = lambda row, token: False,
        logprobs: bool = False,
    ) -> Iterator[Token]:
        """Yield the tokens of `copies` samples of each prompt as they come.

        Row i * copies + j is sample j of prompt i; the samples of a prompt share its pass through the model. A row ends
        at a stop token, which comes as its last, where `ended` says so, after max_tokens, or when prompt and tokens
        fill the model's context; then it costs nothing more. Row i draws random numbers first_row + i, so it is the
        same alone and in a batch; or first_row[p] is that of prompt p's first sample. Without `logprobs` those are 0.
        Raises UsageError (2) if a prompt is empty or fills the context.
        """
        self.check(prompts)
        if not prompts or sampling.max_tokens < 1:
            return
        if isinstance(first_row, int):
            first_row = [first_row + i * copies for i in range(len(prompts))]
        rows = [
            Row(i * copies + j, list(prompt), self.room(prompt, sampling), Draws(sampling.seed, first + j))
            for i, (prompt, first) in enumerate(zip(prompts, first_row, strict=True))
            for j in range(copies)
        ]
        cache, logits = self.read(prompts, copies, max(len(row.text) + row.room for row in rows))
        seen = seen_tokens(rows, logits) if sampling.repetition_penalty != 1 else None
        guesses: list[list[int]] = [[] for _ in rows]
        while True:
            for row, token in settle(rows, logits, guesses, sampling, seen, logprobs):
                yield token
                if token.id in stop_ids or ended(row.number, token.id):
                    row.room = 0
            going = [place for place, row in enumerate(rows) if row.room > 0]
            if not going:
                return
            if len(going) < len(rows):
                cache.select_rows(going)
                rows = [rows[place] for place in going]
                seen = None if seen is None else seen[going]
                if self.guesser:
                    self.guesser.select(going)
            kept = [len(row.text) - 1 for row in rows]  # the last token of each is new to the model
            if kept != cache.lengths:  # what it read for wrong guesses, or beside them
                cache.set_lengths(kept)
            guesses = self.guess(rows, sampling, cache)
            logits = self.model.logits(self.model.hidden_states(self.next_tokens(rows, guesses), cache))  # (B, T, V)

    def room(self, prompt: Sequence[int], sampling: SamplingParams) -> int:
        """Return how many tokens may follow a prompt."""
        return min(sampling.max_tokens, self.context - len(prompt))

    def read(self, prompts: Sequence[Sequence[int]], copies: int, most: int) -> tuple[KVCache, Tensor]:
        """Read the prompts, padded on the right, once for all their samples; give the logits (B, 1, V) after each."""
        lengths = [len(prompt) for prompt in prompts]
        cache = KVCache(self.model.config, len(prompts), min(most + self.ahead, self.context), self.like)
        padded = [[*prompt, *[0] * (max(lengths) - len(prompt))] for prompt in prompts]
        tokens = torch.tensor(padded, device=self.like.device)
        known = (lengths,) if isinstance(self.model, Decoder) else ()
        hidden = self.model.hidden_states(tokens, cache, *known)  # (B, T, C)
        cache.set_lengths(lengths)  # forget what the padding wrote
        last = hidden[torch.arange(len(prompts)), torch.tensor(lengths) - 1][:, None]  # (B, 1, C)
        if self.guesser:
            self.guesser.begin([list(prompt) for prompt in prompts], most)
        if copies > 1:
            places = [place for place in range(len(prompts)) for _ in range(copies)]
            cache.select_rows(places)
            last = last[places]
            if self.guesser:
                self.guesser.select(places)
        return cache, self.model.logits(last)

    def guess(self, rows: list[Row], sampling: SamplingParams, cache: KVCache) -> list[list[int]]:
        """Guess how each row goes on, as far as it may and the cache has room."""
        if not self.guesser:
            return [[] for _ in rows]
        free = min(self.ahead, cache.keys.size(3) - max(len(row.text) for row in rows))

        def draw(logits: Tensor, ahead: int) -> Tensor:
            return choose(logits, sampling, [row.draws.peek(ahead) for row in rows])

        return self.guesser.guess([row.text for row in rows], [min(free, row.room - 1) for row in rows], draw)

    def next_tokens(self, rows: list[Row], guesses: list[list[int]]) -> Tensor:
        """Put each row's last token and the guesses after it side by side: (B, T), padded on the right."""
        width = max(map(len, guesses))
        padded = [[row.text[-1], *guess, *[0] * (width - len(guess))] for row, guess in zip(rows, guesses, strict=True)]
        return torch.tensor(padded, device=self.like.device)

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Refuse prompts that nothing can follow."""
        for row, prompt in enumerate(prompts, start=1):
            if not prompt:
                raise UsageError(
                    f"prompt {row} is empty", "begin with the end-of-text token, which precedes every document"
                )
            if len(prompt) >= self.context:
                raise UsageError(
                    f"prompt {row} has {len(prompt)} tokens, the model's context is {self.context}",
                    "shorten the prompt",
                )


def settle(
    rows: list[Row],
    logits: Tensor,
    guesses: list[list[int]],
    sampling: SamplingParams,
    seen: Tensor | None,
    logprobs: bool,
) -> Iterator[tuple[Row, Token]]:
    """Draw each row's next token from logits (B, T, V), and the ones after it as long as they were guessed right.

    The rows grow by what is drawn; a row whose `room` is gone, which the caller may see to, draws no more.
    """
    live = list(range(len(rows)))
    for step in range(logits.size(1)):
        scores = logits[:, step] if len(live) == len(rows) else logits[live, step]  # (b, V)
        likely = scores if seen is None else penalized(scores, seen[live], sampling.repetition_penalty)
        chosen = choose(likely, sampling, [rows[place].draws.peek() for place in live])  # (b,)
        found = [0.0] * len(live)
        if logprobs:
            found = (scores.gather(1, chosen[:, None])[:, 0] - scores.logsumexp(-1)).tolist()
        if seen is not None:
            seen[live, chosen] = True
        for place, token, logprob in zip(live, chosen.tolist(), found, strict=True):
            row = rows[place]
            row.text.append(token)
            row.room -= 1
            row.draws.take()
            yield row, Token(row.number, token, logprob)
        live = [
            place for place in live if rows[place].room > 0 and guesses[place][step : step + 1] == rows[place].text[-1:]
        ]
        if not live:
            return


def seen_tokens(rows: list[Row], logits: Tensor) -> Tensor:
    """Mark the tokens that stand in each row: (B, V) bool for logits (B, 1, V)."""
    seen = torch.zeros(logits.size(0), logits.size(-1), dtype=torch.bool, device=logits.device)
    for place, row in enumerate(rows):
        seen[place, row.text] = True
    return seen
