"""Generation with a DecodingStep, which a GPU runs while the host reads the tokens of the pass before.

Without drafts the next pass is launched before the host knows the tokens of this one, so the device never waits for the
host. A row that ends takes part in one more pass, whose token is dropped. Drafts need the tokens first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from gptctl.infer.decoding_step import DecodingStep, power_of_two
from gptctl.infer.rows import Row, Token, take_tokens
from gptctl.infer.sampling import SamplingParams
from gptctl.model.device import HostCopy
from gptctl.model.kv_cache import KVCache

Propose = Callable[[list[Row]], list[list[int]]]  # drafts of rows that have not ended


class StaticDecoding:
    """Rows of samples, each in a place of a DecodingStep. Ended rows keep their place until half of the rows ended."""

    def __init__(self, step: DecodingStep, rows: Sequence[Row], params: SamplingParams) -> None:
        """Begin with the given rows, the first one in place 0."""
        self.step, self.params = step, params
        self.places = list(rows)
        self.drawn = step.numbers.size(1)  # random numbers that the rows may have used of those on the device

    def start(self, cache: KVCache, logits: Tensor) -> None:
        """Take the prompts in `cache`, and sample the tokens after them from logits (B, 1, V)."""
        self.refill_numbers(unread=0)
        self.first = self.step.start(cache, [row.text for row in self.places], logits, self.params)

    def stream(self, propose: Propose | None) -> Iterator[tuple[Row, Token]]:
        """Yield the tokens of the rows, once `start` was called. A row ends where the caller sets its `room` to 0."""
        members, drafts, copy = list(self.places), [list[int]() for _ in self.places], self.first
        while True:
            following = None
            if propose is None and any(row.room > 1 for row in self.places):
                following = self.launch(unread=1)
            yield from take_tokens(members, *self.read(copy, len(members)), drafts)
            running = [row for row in self.places if row.room > 0]
            if not running:
                return
            if propose is not None:
                found = {row.number: drafted for row, drafted in zip(running, propose(running), strict=True)}
                following = self.launch(0, found)
                drafts = [found.get(row.number, []) for row in self.places]
            assert following is not None  # a row that still runs had room for more than one token
            members, copy = list(self.places), following

    def launch(self, unread: int, drafts: dict[int, list[int]] | None = None) -> HostCopy:
        """Start the next pass. `unread` tokens of each row were sampled, but are not known to the host yet."""
        self.compact(unread)
        self.refill_numbers(unread)
        if drafts is not None:
            self.step.set_drafts([drafts.get(row.number, []) for row in self.places])
        longest = max(len(row.text) for row in self.places if row.room > unread)
        return self.step.run(len(self.places), longest + unread - 1 + self.step.T, self.params)

    def compact(self, unread: int) -> None:
        """Move the rows that go on to the first places, if these are half of the places or fewer."""
        needed = [place for place, row in enumerate(self.places) if row.room > unread]
        size = power_of_two(len(needed))
        if size >= power_of_two(len(self.places)):
            return
        free = sorted(set(range(size)) - set(needed))
        sources = [place for place in needed if place >= size]
        targets = free[: len(sources)]
        if sources:
            self.step.move_rows(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            self.places[target] = self.places[source]
        del self.places[size:]

    def refill_numbers(self, unread: int) -> None:
        """Send each row's next random numbers, if those on the device may not suffice for another pass."""
        size = self.step.numbers.size(1)
        if self.params.temperature == 0:
            return
        if self.drawn + self.step.T > size:
            self.step.set_numbers([[row.random.peek(unread + i) for i in range(size)] for row in self.places])
            self.drawn = 0
        self.drawn += self.step.T

    def read(self, copy: HostCopy, count: int) -> tuple[list[list[int]], list[list[float]] | None]:
        """Wait for a pass, and return the tokens of the first `count` rows, and their log-probabilities."""
        found = copy.wait()
        if not self.params.logprobs:
            return found[:count].tolist(), None
        tokens, logprobs = found[:, :count].double().tolist()
        return [[int(token) for token in row] for row in tokens], logprobs
