"""The state of samples while they are generated, whatever generates them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gptctl.core.errors import DataError
from gptctl.infer.sampling import NOT_FINITE, RandomNumbers, SamplingParams, sampling_device
from gptctl.model.device import to_device

NO_NUMBERS = torch.empty(0, dtype=torch.float64)


class Token(NamedTuple):
    """One token of a row. `logprob` is ln p under the model itself, before penalty, temperature and filters."""

    row: int
    id: int
    logprob: float


@dataclass
class Row:
    """The state of one sample: prompt and tokens so far, how many more may follow, and its random numbers."""

    number: int
    text: list[int]
    room: int
    random: RandomNumbers

    def append(self, token: int, logprob: float) -> Token:
        """Take the next token. Raises DataError (3) if the model computed NaN or infinity instead of one."""
        if token == NOT_FINITE:
            raise DataError(
                "the model computes numbers that are not finite (NaN or infinity)",
                "its weights are damaged, or too large for this number format; try --set precision=fp32",
            )
        self.text.append(token)
        self.room -= 1
        self.random.advance()
        return Token(self.number, token, logprob)


def next_numbers(rows: Sequence[Row], params: SamplingParams, device: torch.device, offset: int = 0) -> Tensor:
    """Return the random number (B,) of the token that is `offset` tokens after the next one of each row.

    Greedy sampling needs none.
    """
    if params.temperature == 0:
        return NO_NUMBERS
    return to_device([row.random.peek(offset) for row in rows], sampling_device(device), torch.float64)


def take_tokens(
    rows: Sequence[Row],
    ids: Sequence[Sequence[int]],
    logprobs: Sequence[Sequence[float]] | None,
    drafts: Sequence[Sequence[int]],
) -> Iterator[tuple[Row, Token]]:
    """Append the tokens that a pass sampled to the rows: the first one, and others as long as they equal the drafts.

    ids, logprobs and drafts are lists for each row. A row whose `room` is 0, which the caller may set, gets no more.
    """
    live = [place for place, row in enumerate(rows) if row.room > 0]
    for step in range(len(ids[0])):
        for place in live:
            logprob = 0.0 if logprobs is None else logprobs[place][step]
            yield rows[place], rows[place].append(ids[place][step], logprob)
        live = [
            place for place in live if rows[place].room > 0 and drafts[place][step : step + 1] == rows[place].text[-1:]
        ]
