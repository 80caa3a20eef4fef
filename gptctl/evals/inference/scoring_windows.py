"""Which tokens of a document are scored, and with which context."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import UsageError


class Window(NamedTuple):
    """One forward pass: inputs start_input..end_input - 1 are read, targets first_target..end_input are scored.

    Input i predicts token i + 1. Input -1 is the beginning-of-text token that stands before token 0.
    """

    start_input: int
    end_input: int
    first_target: int


def windows(n_tokens: int, context: int, stride: int) -> list[Window]:
    """Plan the forward passes that score each of `n_tokens` tokens exactly once.

    The first window starts before token 0 and scores `context` tokens; each later one scores the next `stride` tokens
    (fewer at the end) with as many tokens on their left as fit into `context` inputs. A small stride gives more
    context and costs more. Raises UsageError unless 1 <= stride <= context.
    """
    if context < 1:
        raise UsageError(f"context is {context}, at least 1 token is needed", "give a context of 1 or more")
    if not 1 <= stride <= context:
        raise UsageError(
            f"stride is {stride}, outside 1..{context} (the context)", "half the context is usual for reports"
        )
    planned: list[Window] = []
    scored = 0
    while scored < n_tokens:
        until = min(n_tokens, scored + stride if planned else context)
        planned.append(Window(max(-1, until - 1 - context), until - 1, scored))
        scored = until
    return planned


def cut(tokens: npt.NDArray[Any], begin_id: int, context: int, stride: int) -> list[tuple[npt.NDArray[np.int64], int]]:
    """Cut a document into what its windows read: the tokens (1 + T,) and how many of the last ones are targets.

    `begin_id` is the end-of-text token, which stands before every document and is not scored.
    """
    stream = np.append(begin_id, tokens).astype(np.int64)  # stream[k + 1] is token k
    return [
        (stream[window.start_input + 1 : window.end_input + 2], window.end_input + 1 - window.first_target)
        for window in windows(len(tokens), context, stride)
    ]
