"""One pass of generation with all that it reads and writes in fixed places on the device, replayed as a CUDA graph.

A pass of a small model is some hundred kernels of a few microseconds. Launching them one by one takes longer than
running them. A graph launches all of them at once. Nothing in a pass waits for the host: it samples the next tokens,
and the next pass reads them where they are. Rows that have ended are still computed, until half of them have.

Shapes: B rows, T tokens of a row in one pass (the next token and drafts), S slots, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gptctl.infer.decoder import Decoder
from gptctl.infer.sampling import (
    NUMBERS_PER_DRAW,
    SamplingParams,
    apply_repetition_penalty,
    log_probabilities,
    sample_tokens,
)
from gptctl.model.device import HostCopy, to_device
from gptctl.model.kv_cache import KVCache
from gptctl.model.static_kv_cache import StaticKVCache

SLOT_MULTIPLE = 64
MIN_SLOTS = 128  # slots of the shortest pass; longer ones have a power of two
NO_DRAFT = -1


class DecodingStep:
    """The state of up to `rows` samples, and the pass that continues them.

    `lengths` (B,) count the tokens that the model has read. `tokens` (B, T) are the next ones, NO_DRAFT where a row has
    fewer drafts. `numbers` (B, NUMBERS_PER_DRAW or T) are random numbers, of which each row has used `used` (B,).
    """

    def __init__(self, model: Decoder, rows: int, slots: int, num_draft_tokens: int) -> None:
        """Allocate everything for `rows` samples of up to `slots` tokens."""
        config, device = model.config, model.like.device
        self.model, self.T = model, 1 + num_draft_tokens
        self.rows, self.slots = (
            power_of_two(rows),
            min(round_slots(slots + self.T), self.most_slots(config.max_seq_len)),
        )
        shape = (config.layers, self.rows, config.resolved_kv_heads, self.slots, config.resolved_head_dim)
        self.keys, self.values = model.like.new_zeros(shape), model.like.new_zeros(shape)
        self.lengths = torch.zeros(self.rows, dtype=torch.int64, device=device)
        self.tokens = torch.full((self.rows, self.T), NO_DRAFT, dtype=torch.int64, device=device)
        self.numbers = torch.zeros(self.rows, max(NUMBERS_PER_DRAW, self.T), dtype=torch.float64, device=device)
        self.used = torch.zeros_like(self.lengths)
        self.seen: Tensor | None = None  # (B, V): the tokens that each row contains, if they have a penalty
        self.graphs: dict[tuple[int, int, SamplingParams], CudaGraph] = {}
        self.pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def most_slots(self, max_seq_len: int) -> int:
        """Return the slots of a full context and the drafts after it, in a number for which kernels need no padding."""
        return -(-(max_seq_len + self.T) // SLOT_MULTIPLE) * SLOT_MULTIPLE

    def fits(self, rows: int, slots: int, num_draft_tokens: int) -> bool:
        """Return whether there is room for so many rows of so many tokens, with so many drafts."""
        return rows <= self.rows and slots + self.T <= self.slots and 1 + num_draft_tokens == self.T

    def start(self, cache: KVCache, texts: Sequence[Sequence[int]], logits: Tensor, params: SamplingParams) -> HostCopy:
        """Sample the first token of each row from logits (B, 1, V) after the prompts in `cache`; see `run`."""
        device = self.lengths.device
        self.load(cache)
        self.lengths[: len(texts)] = to_device([len(text) - 1 for text in texts], device)
        if params.repetition_penalty != 1:
            places = [(row, token) for row, text in enumerate(texts) for token in text]
            row_of, tokens = to_device(places, device).unbind(1)
            if self.seen is None:
                self.seen = torch.empty(self.rows, logits.size(-1), dtype=torch.bool, device=device)
            self.seen.zero_().index_put_((row_of, tokens), torch.ones_like(tokens, dtype=torch.bool))
        return HostCopy(self.accept(logits, params))

    def load(self, cache: KVCache) -> None:
        """Take the keys and values of a cache. The first rows are its rows, and the others have no tokens."""
        rows, slots = cache.keys.size(1), cache.keys.size(3)
        self.keys[:, :rows, :, :slots] = cache.keys
        self.values[:, :rows, :, :slots] = cache.values
        self.tokens.fill_(NO_DRAFT)
        self.lengths.zero_()

    def set_next(self, tokens: Sequence[int], lengths: Sequence[int]) -> None:
        """Set the next token of the first rows, and how many tokens before it count."""
        both = to_device([tokens, lengths], self.lengths.device)
        self.tokens[: len(tokens), 0], self.lengths[: len(tokens)] = both[0], both[1]

    def set_numbers(self, numbers: Sequence[Sequence[float]]) -> None:
        """Set the next random numbers of the first rows, at most as many as the tensor `numbers` has columns."""
        self.numbers[: len(numbers), : len(numbers[0])] = to_device(numbers, self.numbers.device, torch.float64)
        self.used.zero_()

    def set_drafts(self, drafts: Sequence[Sequence[int]]) -> None:
        """Set the drafts of each row, at most T - 1."""
        padded = [[*draft, *[NO_DRAFT] * (self.T - 1 - len(draft))] for draft in drafts]
        self.tokens[: len(padded), 1:] = to_device(padded, self.tokens.device)

    def move_rows(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows to other places."""
        device = self.lengths.device
        source, target = to_device(sources, device), to_device(targets, device)
        for cached in (self.keys, self.values):
            cached.index_copy_(1, target, cached.index_select(1, source))
        for tensor in (self.lengths, self.tokens, self.numbers, self.used, self.seen):
            if tensor is not None:
                tensor.index_copy_(0, target, tensor.index_select(0, source))

    def run(self, rows: int, slots: int, params: SamplingParams) -> HostCopy:
        """Continue the first `rows` rows, of which none needs more than `slots` slots in this pass.

        Return the sampled tokens (B, T), or with params.logprobs tokens and log-probabilities (2, B, T) in float32.
        After its drafts that were right, the next token of a row is valid; those after it are not.
        """
        rows, slots = power_of_two(rows), min(round_slots(slots), self.slots)
        if not self.lengths.is_cuda:
            return HostCopy(self.compute(rows, slots, params))
        # The graph depends on nothing else.
        key = rows, slots, replace(params, max_tokens=0, seed=0, stop=())
        if key not in self.graphs:
            self.graphs[key] = CudaGraph(self.pool)
        return HostCopy(self.graphs[key].run(lambda: self.compute(rows, slots, params)))

    def compute(self, rows: int, slots: int, params: SamplingParams) -> Tensor:
        """Read the next tokens, and sample what follows them; see `run`."""
        cache = StaticKVCache(
            self.keys[:, :rows, :, :slots],
            self.values[:, :rows, :, :slots],
            self.lengths[:rows],
            self.model.config.max_seq_len,
        )
        hidden = self.model.hidden_states(self.tokens[:rows].clamp(min=0), cache)  # (B, T, C)
        return self.accept(self.model.logits(hidden), params)

    def accept(self, logits: Tensor, params: SamplingParams) -> Tensor:
        """Sample from logits (B, T, V) as long as the tokens equal the drafts, and prepare the next pass; see `run`."""
        B, T, _ = logits.shape
        is_valid = torch.ones(B, dtype=torch.bool, device=logits.device)
        count = torch.zeros(B, dtype=torch.int64, device=logits.device)
        following = self.tokens[:B, 0]
        seen = None if self.seen is None or params.repetition_penalty == 1 else self.seen[:B]
        found, logprobs = [], []
        for step in range(T):
            scores = logits[:, step]
            adjusted = scores
            if seen is not None:
                adjusted = apply_repetition_penalty(scores, seen, params.repetition_penalty)
            place = (self.used[:B] + step).clamp(max=self.numbers.size(1) - 1)[:, None]
            chosen = sample_tokens(adjusted, params, self.numbers[:B].gather(1, place)[:, 0])  # (B,)
            if seen is not None:
                places = chosen[:, None].clamp(min=0)
                seen.scatter_(1, places, seen.gather(1, places) | is_valid[:, None])
            if params.logprobs:
                logprobs.append(log_probabilities(scores, chosen))
            found.append(chosen)
            following, count = torch.where(is_valid, chosen, following), count + is_valid
            if step + 1 < T:
                is_valid = is_valid & (chosen == self.tokens[:B, step + 1])
        self.tokens[:B, 0] = following
        self.lengths[:B] += count
        self.used[:B] += count
        tokens = torch.stack(found, 1)
        return torch.stack((tokens.float(), torch.stack(logprobs, 1).float())) if params.logprobs else tokens


class CudaGraph:
    """A function of tensors in fixed places: the first call runs it, the second records it, later ones replay that.

    The first call also loads kernels and libraries, which is not possible while a graph is recorded. If an operation
    cannot be recorded, a warning says so, and each call runs the function.
    """

    def __init__(self, pool: Any) -> None:
        """Take the memory pool that the graphs of a DecodingStep share: only one of them runs at a time."""
        self.pool = pool
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def run(self, function: Callable[[], Tensor]) -> Tensor:
        """Return the result, which the next call overwrites."""
        self.calls += 1
        if self.calls == 2:
            self.record(function)
        if self.graph is None:
            return function()
        self.graph.replay()
        return self.result

    def record(self, function: Callable[[], Tensor]) -> None:
        """Record the function, which does not run it."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
                self.result = function()
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # torch leaves it only where recording succeeds
            warnings.warn(f"generation is slower than it could be: no CUDA graph of a step: {error}", stacklevel=2)
        else:
            self.graph = graph


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is not less than `number`."""
    return 1 << max(0, number - 1).bit_length()


def round_slots(slots: int) -> int:
    """Return a number of slots of which few different ones exist: a power of two from MIN_SLOTS up."""
    return max(MIN_SLOTS, power_of_two(slots))
