"""A conversation with a chat model. The oldest turns are omitted where it is too long for the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.infer.chat_prompt import system_messages
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams
from gptctl.text.chat_messages import ASSISTANT


class Conversation:
    """Turns of user and assistant after an optional system message."""

    def __init__(self, generator: TextGenerator, params: SamplingParams, system: str | None = None) -> None:
        """Begin a conversation. Raises DataError (3) if the model has no chat template."""
        self.generator = generator
        self.template = generator.require_chat_template()
        self.params = params
        self.messages = system_messages(system)
        self.system_count = len(self.messages)
        self.turns = self.omitted_turns = 0

    def say(self, text: str) -> Iterator[str]:
        """Add a user message; yield the text of the answer as it is generated.

        Leave out the oldest turns if the conversation leaves no room for an answer. Raises DataError (3) if the last
        message alone fills the context.
        """
        self.messages.append({"role": "user", "content": text})
        room = self.generator.prompt_length(self.params.max_tokens)
        while len(tokens := self.template.prompt(self.messages)) > room:
            if len(self.messages) - self.system_count < 3:
                self.messages.pop()
                raise DataError(
                    f"the message has {len(tokens)} tokens with the chat template, the model can read {room}",
                    "write a shorter message, or use a model with a longer context",
                )
            del self.messages[self.system_count : self.system_count + 2]  # a question and its answer
            self.omitted_turns += 1
        answer = ""
        for chunk in self.generator.stream([tokens], self.params, first_sample=[self.turns]):
            answer += chunk.text
            yield chunk.text
        self.turns += 1
        self.messages.append({"role": ASSISTANT, "content": answer})

    def metrics(self) -> dict[str, Any]:
        """Return the number of answers, and the messages that are still part of the conversation."""
        return {"turns": self.turns, "messages": [dict(message) for message in self.messages]}


def chat(conversation: Conversation, lines: Iterable[str], context: Context, marker: str = "> ") -> None:
    """Answer each line, and write the answers as they are generated.

    `marker` precedes each line that is typed; without one, lines of --- separate the answers.
    """
    omitted = 0
    context.write(marker)
    for number, line in enumerate(lines):
        if number and not marker:
            context.write("---\n")
        for text in conversation.say(line):
            context.write(text)
            context.stop.check("stopped")
        context.write("\n" + marker)
        if conversation.omitted_turns > omitted:
            turns = conversation.omitted_turns - omitted
            context.warn(f"the conversation is too long for the model: {turns} of its oldest turns were left out")
            omitted = conversation.omitted_turns
