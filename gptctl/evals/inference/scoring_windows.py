"""Which tokens of a long document are scored in which window, and with how much context."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import UsageError
from gptctl.infer.request import Request


class Window(NamedTuple):
    """One forward pass. It reads the inputs start_input..end_input - 1 and scores the targets first_target..end_input.

    Input i predicts token i + 1. Input -1 is the token before token 0: end-of-text or BOS.
    """

    start_input: int
    end_input: int
    first_target: int


def plan_windows(n_tokens: int, max_length: int, stride: int) -> list[Window]:
    """Plan the forward passes that score each of `n_tokens` tokens exactly once.

    The first window starts before token 0 and scores `max_length` tokens. Each later one scores the next `stride`
    tokens (fewer at the end), after as many earlier tokens as fit into `max_length` inputs. A small stride gives every
    token more context and costs more. Raises UsageError unless 1 <= stride <= max_length.
    """
    if max_length < 1:
        raise UsageError(f"max_length is {max_length}, but at least 1 token is needed", "set a max_length of 1 or more")
    if not 1 <= stride <= max_length:
        raise UsageError(
            f"stride is {stride}, outside 1..{max_length} (max_length)", "half of max_length is usual for reports"
        )
    planned: list[Window] = []
    scored = 0
    while scored < n_tokens:
        end = min(n_tokens, scored + stride if planned else max_length)
        planned.append(Window(max(-1, end - 1 - max_length), end - 1, scored))
        scored = end
    return planned


def window_requests(tokens: npt.NDArray[Any], begin_id: int, max_length: int, stride: int) -> list[Request]:
    """Return the requests for the windows of a document.

    `begin_id` is the token that precedes every document and is not scored: end-of-text or BOS.
    """
    stream = np.append(begin_id, tokens).astype(np.int64)  # stream[k + 1] is token k
    return [
        Request(stream[window.start_input + 1 : window.end_input + 2], window.end_input + 1 - window.first_target)
        for window in plan_windows(len(tokens), max_length, stride)
    ]
