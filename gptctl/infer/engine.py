"""Generate with a preallocated key-value cache, many prompts of any lengths at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from gptctl.core.errors import UsageError
from gptctl.infer.sampling import Sampling, generators, sample
from gptctl.model.attention import KVCache
from gptctl.model.gpt import GPT

FinishReason = Literal["stop", "length"]


@dataclass
class Generation:
    """What came after one prompt. finish_reason: "stop" at a stop token (not among the tokens), "length" at max_tokens
    or where the model's context is full."""

    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "length"
    text: str = ""


class Engine:
    """A model ready to generate. `decode` turns token ids into text."""

    def __init__(self, model: GPT, decode: Callable[[Sequence[int]], str]) -> None:
        self.model = model.eval()
        self.decode = decode

    @torch.inference_mode()
    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int = 128,
        sampling: Sampling | None = None,
        seed: int = 0,
        stop: Collection[int] = (),
    ) -> Iterator[tuple[int, int]]:
        """Yield (row, token) as they come, row by row within a step; stop tokens come too, as a row's last.

        A row ends at a stop token, after max_tokens, or when prompt and tokens fill the model's context. Rows that
        ended cost nothing more. Row i draws from its own generator, so it is the same alone and in a batch.
        Raises UsageError (2) if a prompt is empty or leaves no room in the context.
        """
        sampling = sampling or Sampling()
        self.check(prompts)
        room = [min(max_tokens, self.model.config.context - len(prompt)) for prompt in prompts]
        rows = [row for row in range(len(prompts)) if room[row] > 0]
        if not rows:
            return
        device = self.model.embedding.weight.device
        randoms = generators(seed, len(prompts))
        lengths = [len(prompts[row]) for row in rows]
        slots = max(len(prompts[row]) + room[row] for row in rows)
        cache = KVCache(self.model.config, len(rows), max(slots, max(lengths)), self.model.embedding.weight)
        padded = [[*prompts[row], *[0] * (max(lengths) - len(prompts[row]))] for row in rows]
        hidden = self.model.hidden(torch.tensor(padded, device=device), cache)  # (B, T, C)
        cache.rewind(lengths)  # forget what the padding wrote
        last = hidden[torch.arange(len(rows), device=device), torch.tensor(lengths, device=device) - 1]
        while True:
            chosen = sample(self.model.logits(last), sampling, [randoms[row] for row in rows])
            tokens = chosen.tolist()
            yield from zip(rows, tokens, strict=True)
            going = []
            for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
                room[row] -= 1
                if room[row] > 0 and token not in stop:
                    going.append(place)
            if not going:
                return
            if len(going) < len(rows):
                cache.select(going)
                rows = [rows[place] for place in going]
                chosen = chosen[going]
            last = self.model.hidden(chosen[:, None], cache)[:, -1]  # (B, C)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int = 128,
        sampling: Sampling | None = None,
        seed: int = 0,
        stop: Collection[int] = (),
    ) -> list[Generation]:
        """Collect what `stream` gives, one Generation per prompt."""
        generations = [Generation() for _ in prompts]
        for row, token in self.stream(prompts, max_tokens, sampling, seed, stop):
            if token in stop:
                generations[row].finish_reason = "stop"
            else:
                generations[row].tokens.append(token)
        for generation in generations:
            generation.text = self.decode(generation.tokens)
        return generations

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Refuse prompts that nothing can follow."""
        context = self.model.config.context
        for row, prompt in enumerate(prompts):
            if not prompt:
                raise UsageError(
                    f"prompt {row + 1} is empty", "begin with the end-of-text token, which precedes every document"
                )
            if len(prompt) >= context:
                raise UsageError(
                    f"prompt {row + 1} has {len(prompt)} tokens, the model's context is {context}", "shorten the prompt"
                )
