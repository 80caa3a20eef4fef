"""What is read of a conversation that is longer than the context."""

from __future__ import annotations

from typing import Literal

from gptctl.text.chat import Sample

LongConversations = Literal["leave-out", "head", "tail"]


def shorten(sample: Sample, length: int, how: LongConversations) -> Sample | None:
    """Return the first or the last `length` tokens of a sample that has more, or None if it is left out.

    A sample is also left out if nothing is learned of what remains.
    """
    if how == "leave-out":
        return None
    part = slice(length) if how == "head" else slice(-length, None)
    tokens, is_learned = sample[0][part], sample[1][part]
    return (tokens, is_learned) if is_learned[1:].any() else None
