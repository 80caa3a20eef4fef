"""The result of generating text: completions, and the chunks in which they arrive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gptctl.infer.engine import FinishReason
from gptctl.infer.text_stream import TextStream


@dataclass
class Completion:
    """The continuation of one prompt.

    `token_ids` are all tokens that were generated but the stop token, those of a stop string included. `text` ends
    before the stop string.
    """

    stream: TextStream
    finish_reason: FinishReason = "length"
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text so far."""
        return self.stream.text


class Chunk(NamedTuple):
    """New text of one completion, and the completion so far. The last chunk of a completion may have no text."""

    row: int
    text: str
    completion: Completion
