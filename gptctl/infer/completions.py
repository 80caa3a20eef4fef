"""Prompts in, samples out: text, why it ended, and how likely each token was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.text_stream import TextStream
from gptctl.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Writer:
    """A model with its tokenizer, and when a sample ends: at a stop token or before a stop string."""

    engine: Engine
    coder: Tokenizer
    stop_ids: Collection[int]
    stops: Sequence[str] = ()
    logprobs: bool = False


@dataclass
class Continuation:
    """One sample. `tokens` are all that were generated, with what spelled a stop string, without the stop token."""

    stream: TextStream
    finish: str = "length"
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text so far."""
        return self.stream.text


def continued(
    writer: Writer, prompts: Sequence[Sequence[int]], sampling: SamplingParams, firsts: Sequence[int], copies: int
) -> Iterator[tuple[int, str, Continuation]]:
    """Yield (row, new text, its sample so far) as text comes, until all rows have ended; the last text may be empty.

    Row i * copies + j is sample j of prompt i, whose random numbers are firsts[i] + j.
    """
    rows = [Continuation(TextStream(writer.coder, writer.stops)) for _ in range(len(prompts) * copies)]
    tokens = writer.engine.tokens(
        prompts,
        sampling,
        writer.stop_ids,
        firsts,
        copies,
        ended=lambda row, _: rows[row].stream.stopped,
        logprobs=writer.logprobs,
    )
    for row, token, logprob in tokens:
        sample = rows[row]
        if token in writer.stop_ids:
            sample.finish = "stop"
            continue
        sample.tokens.append(token)
        sample.logprobs.append(logprob)
        piece = sample.stream.add(token)
        if sample.stream.stopped:
            sample.finish = "stop"
        if piece:
            yield row, piece, sample
    for row, sample in enumerate(rows):
        yield row, sample.stream.finish(), sample


def complete(
    writer: Writer,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    first: int,
    copies: int,
    batch_size: int,
    each: Callable[[int], None] = lambda done: None,
) -> list[list[Continuation]]:
    """Return `copies` samples of each prompt; sample j of prompt i has the random numbers first + i * copies + j.

    Prompts of like lengths are continued together, `batch_size` samples at a time. A sample does not depend on the
    others beyond rounding. `each` is called with the number of finished samples, and may raise to stop.
    """
    found: list[list[Continuation]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    at_once, done = max(1, batch_size // copies), 0
    for start in range(0, len(order), at_once):
        part = order[start : start + at_once]
        for copy in range(0, copies, batch_size):
            count = min(batch_size, copies - copy)
            firsts = [first + i * copies + copy for i in part]
            made: dict[int, Continuation] = {}
            for row, _, sample in continued(writer, [prompts[i] for i in part], sampling, firsts, count):
                made[row] = sample
                each(done)
            done += len(made)
            for place, i in enumerate(part):
                found[i] += [made[place * count + j] for j in range(count)]
            each(done)
    return found
