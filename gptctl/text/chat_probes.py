"""Find out what a chat template leaves out, by replacing each call, tool, document and thought with a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gptctl.core.errors import DataError
from gptctl.text.chat_messages import ASSISTANT, Message

THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # keys of messages


class Probes:
    """Copies of a conversation in which texts are replaced. `names` says what each of these texts stands for."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def add(self, name: str) -> str:
        """Return a new text that stands for something of this name."""
        probe = f"probe{len(self.names)}e"
        self.names[probe] = name
        return probe

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages with a probe for the name of each call, and for what the assistant thinks in the last turn.

        Templates may leave out the thoughts of earlier turns. Raises DataError (3) for a call without a name.
        """
        found: list[Message] = []
        for number, message in enumerate(messages):
            copy = dict(message)
            if calls := message.get("tool_calls"):
                copy["tool_calls"] = [self.function(call, "the call of") for call in calls]
            thoughts = [key for key in THOUGHTS if isinstance(message.get(key), str) and message[key].strip()]
            if thoughts and number == len(messages) - 1 and message["role"] == ASSISTANT:
                copy |= dict.fromkeys(thoughts, self.add(f"the assistant's {thoughts[0]}"))
            found.append(copy)
        return found

    def extras(self, extras: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return tools with a probe for the name of each, and documents with one for all texts of each."""
        return {
            "tools": [self.function(tool, "the tool") for tool in extras.get("tools", ())],
            "documents": [with_texts(one, self.add("a document")) for one in extras.get("documents", ())],
        }

    def check(self, rendered: str) -> None:
        """Raise DataError (3) if a rendered text lacks a probe."""
        for probe, name in self.names.items():
            if probe not in rendered:
                raise DataError(f"the chat template leaves out {name}", "use one that has it: --set chat_template=FILE")

    def function(self, value: Any, kind: str) -> Any:
        """Return a call or a tool with a probe as its name. Raises DataError (3) if it has none."""
        if isinstance(value, Mapping):
            if isinstance(value.get("function"), Mapping):
                return {**value, "function": self.function(value["function"], kind)}
            if isinstance(value.get("name"), str):
                return {**value, "name": self.add(f"{kind} {value['name']}")}
        raise DataError("a tool or a call of one has no name", "write {name, ...}, as in OpenAI's format")


def with_texts(value: Any, text: str) -> Any:
    """Return a value with all its texts replaced."""
    if isinstance(value, str):
        return text
    if isinstance(value, Mapping):
        return {key: with_texts(item, text) for key, item in value.items()}
    return [with_texts(item, text) for item in value] if isinstance(value, list) else value
