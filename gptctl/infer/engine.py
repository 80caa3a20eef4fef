"""Generate with a preallocated key-value cache, many prompts of any lengths at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from gptctl.core.errors import UsageError
from gptctl.infer.sampling import Sampling, generators, sample
from gptctl.model.attention import KVCache
from gptctl.model.gpt import GPT


@dataclass
class Sample:
    """What came after one prompt. finish: "stop" at a stop token (which is not among the tokens), "length" after
    max_tokens or where prompt and tokens fill the model's context."""

    tokens: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] = "length"


class Engine:
    """A model ready to generate on the device it is on."""

    def __init__(self, model: GPT) -> None:
        self.model = model.eval()
        self.context = model.config.context

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, stop_ids: Collection[int] = (), first_row: int = 0
    ) -> list[Sample]:
        """Collect what `stream` gives, one Sample per prompt."""
        samples = [Sample() for _ in prompts]
        for row, token in self.stream(prompts, sampling, stop_ids, first_row):
            if token in stop_ids:
                samples[row].finish = "stop"
            else:
                samples[row].tokens.append(token)
        return samples

    @torch.inference_mode()
    def stream(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, stop_ids: Collection[int] = (), first_row: int = 0
    ) -> Iterator[tuple[int, int]]:
        """Yield (row, token) as they come; a stop token comes too, as the last of its row.

        A row ends at a stop token, after max_tokens, or when prompt and tokens fill the model's context; then it costs
        nothing more. Row i draws from generator first_row + i, so it is the same alone and in a batch.
        Raises UsageError (2) if a prompt is empty or fills the context.
        """
        self.check(prompts)
        room = [min(sampling.max_tokens, self.context - len(prompt)) for prompt in prompts]
        if not prompts or sampling.max_tokens < 1:
            return
        device = self.model.embedding.weight.device
        randoms = generators(sampling.seed, range(first_row, first_row + len(prompts)))
        rows = list(range(len(prompts)))  # those that still go on
        lengths = [len(prompt) for prompt in prompts]
        slots = max(length + more for length, more in zip(lengths, room, strict=True))
        cache = KVCache(self.model.config, len(prompts), slots, self.model.embedding.weight)
        padded = [[*prompt, *[0] * (max(lengths) - len(prompt))] for prompt in prompts]
        hidden = self.model.hidden(torch.tensor(padded, device=device), cache)  # (B, T, C)
        cache.rewind(lengths)  # forget what the padding wrote
        last = hidden[torch.arange(len(prompts), device=device), torch.tensor(lengths, device=device) - 1]  # (B, C)
        while True:
            chosen = sample(self.model.logits(last), sampling, [randoms[row] for row in rows])  # (B,)
            tokens = chosen.tolist()
            yield from zip(rows, tokens, strict=True)
            for row in rows:
                room[row] -= 1
            going = [i for i, row in enumerate(rows) if room[row] > 0 and tokens[i] not in stop_ids]
            if not going:
                return
            if len(going) < len(rows):
                cache.select(going)
                rows = [rows[i] for i in going]
                chosen = chosen[going]
            last = self.model.hidden(chosen[:, None], cache)[:, -1]  # (B, C)

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
