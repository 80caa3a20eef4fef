"""From logits to a token: repetition penalty, temperature, top-k, top-p, min-p, and random numbers for each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gptctl.core.seeds import derive

NUMBERS_PER_DRAW = 64  # random numbers that are drawn from torch's generator at a time
NOT_FINITE = -1  # the token where a model computes NaN or infinity
LEAST_TEMPERATURE = 1e-30  # lower ones are greedy: logits divided by them are infinite in float32
TOP_P_CANDIDATES = 1024  # tokens that top-p sorts first; they usually suffice


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen, and when a sample ends.

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0 and repetition_penalty 1 do not change the distribution. A sample
    ends before the first of the texts in `stop`, and after max_tokens.
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    logprobs: bool = False


class RandomNumbers:
    """The random numbers in [0, 1) of one sample, one for each of its tokens, independent of the rest of the batch.

    Looking ahead does not consume them: a token that was drafted gets the number that it would have had anyway.
    """

    def __init__(self, seed: int, sample: int) -> None:
        self.generator = torch.Generator().manual_seed(derive(seed, "sample", sample))
        self.waiting: list[float] = []

    def peek(self, offset: int = 0) -> float:
        """Return the number of the token that is `offset` tokens after the next one."""
        while len(self.waiting) <= offset:
            drawn = torch.rand(NUMBERS_PER_DRAW, generator=self.generator, dtype=torch.float64)
            self.waiting += drawn.tolist()
        return self.waiting[offset]

    def peek_many(self, count: int) -> list[float]:
        """Return the numbers of the next `count` tokens."""
        return [self.peek(offset) for offset in range(count)]

    def advance(self) -> None:
        """Move to the number of the next token."""
        self.peek()
        del self.waiting[0]


def sampling_device(device: torch.device) -> torch.device:
    """Return where tokens are sampled for logits on a device: there, but for Apple GPUs, which have no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def sample_tokens(logits: Tensor, params: SamplingParams, numbers: Tensor) -> Tensor:
    """Choose one token for each row of logits (B, V) by its random number: (B,) int64 on the device of the logits.

    `numbers` (B,) are float64. Greedy sampling does not read them, and of equally likely tokens takes the lowest id.
    Sampling inverts the cumulative distribution, so it needs one number for each token, whatever is filtered. The token
    of a row with a NaN, or with an infinite largest logit, is NOT_FINITE.
    """
    is_finite = logits.amax(-1).isfinite()
    return torch.where(is_finite, choose_tokens(logits, params, numbers), NOT_FINITE)


def choose_tokens(logits: Tensor, params: SamplingParams, numbers: Tensor) -> Tensor:
    """Choose one token for each row of finite logits; see `sample_tokens`."""
    if params.temperature < LEAST_TEMPERATURE:
        return logits.argmax(-1)
    device = logits.device
    logits, draws = logits.to(numbers.device), numbers[:, None]  # (B, V), (B, 1)
    kept = None
    if 0 < params.top_k < logits.size(-1):  # in the order of ids, so that top_k = V changes nothing
        logits, kept = logits.topk(params.top_k, dim=-1)
        kept, order = kept.sort(-1)
        logits = logits.gather(-1, order)
    cumulative = sampling_distribution(logits, params).cumsum(-1, dtype=torch.float64)
    chosen = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).clamp_(max=logits.size(-1) - 1)
    return (chosen if kept is None else kept.gather(-1, chosen))[:, 0].to(device)


def sampling_distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """Return the distribution (B, V) that tokens are sampled from, after temperature, top-k, top-p and min-p.

    top-p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", 3.1: the fewest most likely tokens
    whose probabilities sum to p. min-p: Nguyen et al. 2024, "Turning Up the Heat": tokens at least p times as likely as
    the most likely one.
    """
    logits = logits.float() / params.temperature
    if 0 < params.top_k < logits.size(-1):
        largest = logits.topk(params.top_k, dim=-1)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, largest.indices, largest.values)
    probs = logits.softmax(-1)
    if params.top_p < 1:
        probs = top_p_filter(probs, params.top_p)
    if params.min_p > 0:
        probs = probs.masked_fill(probs < params.min_p * probs.max(-1, keepdim=True).values, 0)
    return probs / probs.sum(-1, keepdim=True)


def top_p_filter(probs: Tensor, top_p: float) -> Tensor:
    """Set all probabilities but the fewest largest that sum to `top_p` to 0; the largest one always stays.

    Probabilities equal to the smallest of those stay, too.
    """
    ordered = sort_on_cpu(probs, top_p) if sorts_on_cpu(probs) else probs.sort(dim=-1, descending=True).values
    before = ordered.cumsum(-1) - ordered
    last = (before < top_p).sum(-1, keepdim=True).clamp_(min=1) - 1
    return probs.masked_fill(probs < ordered.gather(-1, last), 0)


def sorts_on_cpu(probs: Tensor) -> bool:
    """Return whether to sort with `sort_on_cpu`, which a compiled step cannot call."""
    return probs.is_cpu and not torch.compiler.is_compiling()


def sort_on_cpu(probs: Tensor, top_p: float) -> Tensor:
    """Return the largest probabilities of each row, in descending order, of which some sum to `top_p`.

    Sorting the largest ones mostly suffices and takes 0.5 ms for a row of 50,000. Sorting all values takes 1 ms;
    sorting them with their tokens, as torch does, takes 20 ms.
    """
    ordered = probs.topk(min(TOP_P_CANDIDATES, probs.size(-1)), dim=-1).values
    if ordered.sum(-1).min() < top_p:
        return torch.from_numpy(np.sort(probs.numpy())[:, ::-1].copy())
    return ordered


def log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return ln p of tokens (B,) under logits (B, V): (B,)."""
    return logits.gather(1, tokens[:, None].clamp(min=0))[:, 0] - logits.logsumexp(-1)


def apply_repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make the tokens where `seen` (B, V) is True less likely: divide positive logits by the penalty, multiply others.

    Keskar et al. 2019, "CTRL", 4.1, but with regard to the sign.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
