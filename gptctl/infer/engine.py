"""Generation of tokens with a preallocated key-value cache, for many prompts of any lengths at once.

Shapes: B rows that have not ended, T tokens of a row in one pass, C hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gptctl.core.errors import UsageError
from gptctl.infer.decoder import Decoder
from gptctl.infer.decoding_step import DecodingStep
from gptctl.infer.rows import Row, Token, next_numbers
from gptctl.infer.sampling import (
    RandomNumbers,
    SamplingParams,
    apply_repetition_penalty,
    log_probabilities,
    sample_tokens,
)
from gptctl.infer.speculative import Drafter, Draws
from gptctl.infer.static_decoding import StaticDecoding
from gptctl.model.device import to_device
from gptctl.model.gpt import GPT
from gptctl.model.kv_cache import KVCache
from gptctl.model.rope import switches_to_long

FinishReason = Literal["stop", "length"]
ShouldStop = Callable[[int, int], bool]  # (row, token) -> whether the row ends with this token


@dataclass
class Generated:
    """The tokens that follow one prompt, without the stop token.

    The finish reason is "stop" after a stop token, and "length" after max_tokens or when prompt and tokens fill the
    model's context.
    """

    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "length"


class Engine:
    """Generates tokens with a model, on the device that the model is on."""

    def __init__(
        self,
        model: GPT | Decoder,
        drafter: Drafter | None = None,
        num_draft_tokens: int = 0,
        static: bool | None = None,
    ) -> None:
        """Take a model and, for speculative decoding, a drafter that proposes up to `num_draft_tokens` at a time.

        `static` chooses a DecodingStep, which CUDA runs as a graph. By default a Decoder on CUDA has one.
        """
        self.model = model.eval() if isinstance(model, GPT) else model
        self.like = model.embedding.weight if isinstance(model, GPT) else model.like
        self.max_seq_len = model.config.max_seq_len
        self.drafter = drafter
        self.original_context = model.config.rope_scaling.original_max_seq_len if switches_to_long(model.config) else 0
        if self.original_context:  # the keys in a cache have the frequencies of the length that they were read with
            self.drafter, static = None, False
        self.num_draft_tokens = num_draft_tokens if self.drafter else 0
        self.static = isinstance(model, Decoder) and self.like.is_cuda if static is None else static
        self.idle_steps: list[DecodingStep] = []

    @classmethod
    def on_device(cls, model: GPT, device: torch.device) -> Engine:
        """Return an engine for a model on a device. On CUDA the model is arranged for it, so that steps are graphs."""
        model = model.to(device).eval()
        return cls(Decoder(model) if device.type == "cuda" else model)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        stop_ids: Collection[int] = (),
        first_sample: int = 0,
    ) -> list[Generated]:
        """Return what follows each prompt. The arguments are those of `stream`."""
        found = [Generated() for _ in prompts]
        for row, token, _ in self.stream(prompts, params, stop_ids, first_sample):
            if token in stop_ids:
                found[row].finish_reason = "stop"
            else:
                found[row].tokens.append(token)
        return found

    @torch.inference_mode()
    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        stop_ids: Collection[int] = (),
        first_sample: int | Sequence[int] = 0,
        samples_per_prompt: int = 1,
        should_stop: ShouldStop = lambda row, token: False,
    ) -> Iterator[Token]:
        """Yield the tokens of each prompt's samples as they are generated.

        Row i * samples_per_prompt + j is sample j of prompt i; the samples of a prompt share its pass through the
        model. A row ends at a stop token, which is yielded as its last one, where `should_stop` returns True, after
        max_tokens, or when prompt and tokens fill the model's context. From then on it costs nothing.

        The random numbers of row i are those of sample number first_sample + i, so that the sample is the same alone
        and in a batch. A sequence gives the number of the first sample of each prompt. Log-probabilities are 0 unless
        params.logprobs is set. Raises UsageError (2) if a prompt is empty or fills the context.
        """
        self.check_prompts(prompts)
        if not prompts or params.max_tokens < 1:
            return
        if isinstance(first_sample, int):
            first_sample = [first_sample + i * samples_per_prompt for i in range(len(prompts))]
        rows = [
            Row(i * samples_per_prompt + j, list(prompt), self.room(prompt, params), RandomNumbers(params.seed, n + j))
            for i, (prompt, n) in enumerate(zip(prompts, first_sample, strict=True))
            for j in range(samples_per_prompt)
        ]
        generated = self.stream_static if self.static else self.stream_dynamic
        stream = generated(rows, prompts, samples_per_prompt, params)
        while True:
            with self.model.step_threads() if isinstance(self.model, Decoder) else nullcontext():
                found = next(stream, None)
            if found is None:
                return
            row, token = found
            yield token
            if token.id in stop_ids or should_stop(row.number, token.id):
                row.room = 0

    def stream_static(
        self, rows: list[Row], prompts: Sequence[Sequence[int]], samples_per_prompt: int, params: SamplingParams
    ) -> Iterator[tuple[Row, Token]]:
        """Yield the tokens of rows, generated with a DecodingStep. A row ends where the caller sets its room to 0."""
        assert isinstance(self.model, Decoder)
        max_length = max(len(row.text) + row.room for row in rows)
        step = self.take_step(len(rows), max_length)
        drafted = rows

        def propose(running: list[Row]) -> list[list[int]]:
            nonlocal drafted
            if self.drafter and len(running) < len(drafted):
                numbers = {row.number for row in running}
                self.drafter.select_rows([place for place, row in enumerate(drafted) if row.number in numbers])
            drafted = [row for row in drafted if row.room > 0]
            drafts = self.propose(drafted, params, self.max_seq_len)
            by_number = {row.number: draft for row, draft in zip(drafted, drafts, strict=True)}
            return [by_number[row.number] for row in running]

        try:
            decoding = StaticDecoding(step, rows, params)
            decoding.start(*self.prefill(prompts, samples_per_prompt, max(map(len, prompts)), max_length))
            yield from decoding.stream(propose if self.drafter else None)
        finally:
            self.idle_steps.append(step)

    def take_step(self, rows: int, slots: int) -> DecodingStep:
        """Return an idle DecodingStep with its graphs, or a new one if none is large enough."""
        assert isinstance(self.model, Decoder)
        fitting = [place for place, step in enumerate(self.idle_steps) if step.fits(rows, slots, self.num_draft_tokens)]
        if fitting:
            return self.idle_steps.pop(fitting[0])
        self.idle_steps.clear()  # which frees their memory for the new one
        return DecodingStep(self.model, rows, slots, self.num_draft_tokens)

    def stream_dynamic(
        self, rows: list[Row], prompts: Sequence[Sequence[int]], samples_per_prompt: int, params: SamplingParams
    ) -> Iterator[tuple[Row, Token]]:
        """Yield the tokens of rows, generated with a KVCache. A row ends where the caller sets its room to 0."""
        max_length = max(len(row.text) + row.room for row in rows)
        slots = min(max_length + self.num_draft_tokens, self.max_seq_len)
        cache, logits = self.prefill(prompts, samples_per_prompt, slots, max_length)
        seen = seen_tokens(rows, logits) if params.repetition_penalty != 1 else None
        drafts: list[list[int]] = [[] for _ in rows]
        while True:
            yield from accept_tokens(rows, logits, drafts, params, seen)
            running = [place for place, row in enumerate(rows) if row.room > 0]
            if not running:
                return
            if len(running) < len(rows):
                cache.select_rows(running)
                rows = [rows[place] for place in running]
                seen = None if seen is None else seen[running]
                if self.drafter:
                    self.drafter.select_rows(running)
            lengths = [len(row.text) - 1 for row in rows]  # the model has not read the last token of each row
            if lengths != cache.lengths:  # forget rejected drafts and padding
                cache.set_lengths(lengths)
            drafts = self.propose(rows, params, slots)
            if any(len(row.text) == self.original_context + 1 for row in rows) and self.original_context:
                cache, logits = self.prefill([row.text for row in rows], 1, slots, max_length)
                continue
            logits = self.model.logits(self.model.hidden_states(self.next_tokens(rows, drafts), cache))  # (B, T, V)

    def room(self, prompt: Sequence[int], params: SamplingParams) -> int:
        """Return how many tokens may follow a prompt."""
        return min(params.max_tokens, self.max_seq_len - len(prompt))

    def prefill(
        self, prompts: Sequence[Sequence[int]], samples_per_prompt: int, slots: int, max_length: int
    ) -> tuple[KVCache, Tensor]:
        """Read the prompts, padded on the right, once for all their samples, none of which exceeds `max_length`.

        Return a cache of `slots` slots, with a row for each sample, and the logits (B, 1, V) after each prompt.
        """
        lengths = [len(prompt) for prompt in prompts]
        cache = KVCache(self.model.config, len(prompts), slots, self.like)
        padded = [[*prompt, *[0] * (max(lengths) - len(prompt))] for prompt in prompts]
        tokens = to_device(padded, self.like.device)
        known = (lengths,) if isinstance(self.model, Decoder) else ()
        hidden = self.model.hidden_states(tokens, cache, *known)  # (B, T, C)
        cache.set_lengths(lengths)  # forget the padding
        last = hidden[torch.arange(len(prompts), device=hidden.device), cache.length_tensor - 1][:, None]  # (B, 1, C)
        if self.drafter:
            self.drafter.start([list(prompt) for prompt in prompts], max_length)
        if samples_per_prompt > 1:
            places = [place for place in range(len(prompts)) for _ in range(samples_per_prompt)]
            cache.select_rows(places)
            last = last[places]
            if self.drafter:
                self.drafter.select_rows(places)
        return cache, self.model.logits(last)

    def propose(self, rows: list[Row], params: SamplingParams, slots: int) -> list[list[int]]:
        """Return draft tokens for each row, as many as it may still have and a cache of `slots` slots has room for."""
        if not self.drafter:
            return [[] for _ in rows]
        free = min(self.num_draft_tokens, slots - max(len(row.text) for row in rows))
        counts = [min(free, row.room - 1) for row in rows]
        return self.drafter.propose([row.text for row in rows], counts, Draws(rows, params))

    def next_tokens(self, rows: list[Row], drafts: list[list[int]]) -> Tensor:
        """Return each row's last token and the drafts after it: (B, T), padded on the right."""
        longest = max(map(len, drafts))
        padded = [
            [row.text[-1], *draft, *[0] * (longest - len(draft))] for row, draft in zip(rows, drafts, strict=True)
        ]
        return to_device(padded, self.like.device)

    def check_prompts(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raise UsageError (2) for prompts that no token can follow."""
        for number, prompt in enumerate(prompts, start=1):
            if not prompt:
                raise UsageError(
                    f"prompt {number} is empty", "begin it with the end-of-text token, which precedes every document"
                )
            if len(prompt) >= self.max_seq_len:
                raise UsageError(
                    f"prompt {number} has {len(prompt)} tokens, the model's context is {self.max_seq_len}",
                    "shorten the prompt",
                )


def accept_tokens(
    rows: list[Row], logits: Tensor, drafts: list[list[int]], params: SamplingParams, seen: Tensor | None
) -> Iterator[tuple[Row, Token]]:
    """Sample each row's next token from logits (B, T, V), and further ones as long as they equal the drafts.

    The rows grow by the sampled tokens. A row whose `room` is 0, which the caller may set, gets no more.
    """
    live = list(range(len(rows)))
    for step in range(logits.size(1)):
        is_whole = len(live) == len(rows)
        scores = logits[:, step] if is_whole else logits[live, step]  # (b, V)
        adjusted = scores
        if seen is not None:
            adjusted = apply_repetition_penalty(scores, seen if is_whole else seen[live], params.repetition_penalty)
        numbers = next_numbers([rows[place] for place in live], params, scores.device)
        chosen = sample_tokens(adjusted, params, numbers)  # (b,)
        ids, logprobs = read_tokens(chosen, log_probabilities(scores, chosen) if params.logprobs else None)
        chosen = chosen.clamp(min=0)
        if seen is not None and is_whole:
            seen.scatter_(1, chosen[:, None], True)
        elif seen is not None:
            seen.index_put_((to_device(live, seen.device), chosen), torch.ones_like(chosen, dtype=torch.bool))
        for place, token, logprob in zip(live, ids, logprobs, strict=True):
            yield rows[place], rows[place].append(token, logprob)
        live = [
            place for place in live if rows[place].room > 0 and drafts[place][step : step + 1] == rows[place].text[-1:]
        ]
        if not live:
            return


def read_tokens(chosen: Tensor, logprobs: Tensor | None) -> tuple[list[int], list[float]]:
    """Read tokens (B,) and their log-probabilities (B,), 0 without them, with one wait for the device."""
    if logprobs is None:
        return chosen.tolist(), [0.0] * len(chosen)
    ids, values = torch.stack((chosen.float(), logprobs.float())).tolist()  # ids below 2^24 are exact
    return [int(token) for token in ids], values


def seen_tokens(rows: list[Row], logits: Tensor) -> Tensor:
    """Return which tokens occur in each row: (B, V) bool for logits (B, 1, V)."""
    places = [(place, token) for place, row in enumerate(rows) for token in row.text]
    row_of, tokens = to_device(places, logits.device).unbind(1)
    seen = torch.zeros(logits.size(0), logits.size(-1), dtype=torch.bool, device=logits.device)
    return seen.index_put_((row_of, tokens), torch.ones_like(tokens, dtype=torch.bool))
