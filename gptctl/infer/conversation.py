"""A conversation with a chat model: what was said so far, cut to what the model can hold."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence

from gptctl.core.errors import DataError
from gptctl.infer.completions import Writer, continued
from gptctl.infer.sampling import SamplingParams
from gptctl.text.chat import ASSISTANT, ChatTemplate, Message

WAIT_SECONDS = 0.2  # between two looks whether a signal asked to stop


class Conversation:
    """Turns of user and assistant after an optional system message."""

    def __init__(
        self, writer: Writer, template: ChatTemplate, sampling: SamplingParams, system: str | None = None
    ) -> None:
        self.writer = writer
        self.template = template
        self.sampling = sampling
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.fixed = len(self.messages)
        self.turns = self.forgotten = 0

    def say(self, text: str) -> Iterator[str]:
        """Take what the user says; yield the answer as it comes.

        The oldest turns are forgotten where the conversation leaves no room for an answer.
        Raises DataError (3) if the last message alone fills the context.
        """
        self.messages.append({"role": "user", "content": text})
        context = self.writer.engine.context
        room = context - min(self.sampling.max_tokens, max(1, context // 4))
        while len(tokens := self.template.prompt(self.messages)) > room:
            if len(self.messages) - self.fixed < 3:
                self.messages.pop()
                raise DataError(
                    f"the message has {len(tokens)} tokens with its surroundings, the model holds {room}",
                    "say it shorter, or use a model with a longer context",
                )
            del self.messages[self.fixed : self.fixed + 2]  # a question and its answer
            self.forgotten += 1
        answer = ""
        for _, piece, _ in continued(self.writer, [tokens], self.sampling, [self.turns], 1):
            answer += piece
            yield piece
        self.turns += 1
        self.messages.append({"role": ASSISTANT, "content": answer})


def prompt_tokens(template: ChatTemplate, text: str, system: str | None = None) -> list[int]:
    """Return the tokens after which the assistant answers a text: what a user says, or JSON with a list of messages."""
    before: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    return template.prompt([*before, *(as_messages(text) or [{"role": "user", "content": text}])])


def as_messages(text: str) -> Sequence[Message] | None:
    """Read a list of messages from JSON; None where the text is something else."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found:
        return None
    return found if all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in found) else None


def typed_lines(check: Callable[[], None]) -> Iterator[str]:
    """Yield the lines of standard input that are not blank as they come; `check` is called while waiting.

    Raises DataError (3) for bytes that are not UTF-8.
    """
    source, waiting, ended = sys.stdin.fileno(), b"", False
    while not ended or waiting:
        check()
        line, found, rest = waiting.partition(b"\n")
        if not found and not ended:
            if select.select([source], [], [], WAIT_SECONDS)[0]:
                read = os.read(source, 2**16)
                ended = not read
                waiting += read
            continue
        waiting = rest
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError("what was typed is not UTF-8", "set the terminal to UTF-8") from error
        if text:
            yield text
