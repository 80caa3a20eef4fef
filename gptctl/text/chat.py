"""Turn conversations into tokens: a Jinja template renders them, and only what the assistant says is trained on.

A template is what Hugging Face's tokenizer_config.json calls chat_template. It receives `messages` (role and content),
`add_generation_prompt`, and the names of special tokens. It runs in a sandbox without access to anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray

from gptctl.core.errors import DataError, UsageError
from gptctl.text.tokenizer import Tokenizer

TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"
MARKERS = (TURN, END_OF_TURN)
# ChatML, the basis of most open models' templates.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ASSISTANT = "assistant"
# Inserted after the first character of a special token in a message, so that users cannot write special tokens.
MASK = "\ue0f0"

Message = Mapping[str, Any]


class ChatTemplate:
    """A template, and the tokenizer that encodes the rendered text."""

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        """Parse a template. Raises UsageError (2) if it cannot be parsed."""
        self.source = source
        self.tokenizer = tokenizer
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        try:
            self.template = environment.from_string(source)
        except TemplateError as error:
            raise UsageError(f"the chat template cannot be parsed: {error}", "see jinja.palletsprojects.com") from error

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """Render a conversation as text, with `add_generation_prompt` up to where the assistant's next turn begins.

        Raises DataError (3) if the template rejects the conversation.
        """
        names = {"eos_token": self.tokenizer.end_of_text, "bos_token": self.tokenizer.bos_token or "", "tools": None}
        try:
            return self.template.render(messages=messages, add_generation_prompt=add_generation_prompt, **names)
        except (TemplateError, TypeError, KeyError) as error:
            raise DataError(
                f"the chat template rejects a conversation: {error}", "a message has role and content"
            ) from error

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens up to the assistant's next turn. In gptctl's own models end-of-text comes first."""
        return [*self.tokenizer.chat_prefix_ids, *self.encode(self.render(self.mask_special(messages), True))]

    def conversation(self, messages: Sequence[Message]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the tokens (T,) of a conversation, and a mask (T,) of those that the assistant says.

        The mask includes the end of the assistant's turns. Each turn is encoded by itself after the text before it, as
        when the model generates it. Raises DataError (3) if the template changes earlier text when a turn is added.
        """
        messages = self.mask_special(messages)
        tokens, text = list(self.tokenizer.chat_prefix_ids), ""
        is_said = [False] * len(tokens)
        for number, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            before = self.render(messages[:number], True)
            after = self.render(messages[: number + 1])
            if not (before.startswith(text) and after.startswith(before)):
                raise DataError(
                    "adding a turn changes how the chat template renders earlier turns",
                    "use a template that only appends text for a new turn: --set chat_template=FILE",
                )
            prompt, turn = self.encode(before[len(text) :]), self.encode(after[len(before) :])
            ends = [position for position, token in enumerate(turn) if token in self.tokenizer.special_ids]
            # The text after the end of a turn, mostly a newline, is not trained on.
            said = ends[-1] + 1 if ends else len(turn)
            tokens += prompt + turn
            is_said += [False] * len(prompt) + [True] * said + [False] * (len(turn) - said)
            text = after
        return np.array(tokens, np.int64), np.array(is_said)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a rendered text."""
        return self.tokenizer.encode_marked(text, MASK)

    def mask_special(self, messages: Sequence[Message]) -> list[Message]:
        """Mark the special tokens that messages contain, so that they are encoded as text."""
        return [
            message | {"content": self.tokenizer.mask_special(message["content"], MASK)}
            if isinstance(message.get("content"), str)
            else message
            for message in map(dict, messages)
        ]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Return the tokens that end a turn: the last special token that the template renders, and end-of-text."""
        turn = [{"role": "user", "content": "a"}, {"role": ASSISTANT, "content": "b"}]
        tokens, is_said = self.conversation(turn)
        last = int(tokens[is_said][-1])
        special = (last,) if last in self.tokenizer.special_ids else ()
        return tuple(dict.fromkeys((*special, self.tokenizer.end_of_text_id)))


def _raise(message: str) -> None:
    raise TemplateError(message)


def read_messages(text: str, where: str) -> list[Message]:
    """Read a conversation from JSON text.

    Raises DataError (3) if it is not a list of messages with role and content, or has nothing from the assistant.
    """
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: the messages are not JSON: {error}", "a list of {role, content}") from error
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in messages
    ):
        raise DataError(f"{where}: not a list of messages with role and content", "name it with --text-column")
    if not any(message["role"] == ASSISTANT and message["content"] for message in messages):
        raise DataError(f"{where}: the assistant says nothing", "remove it, or name its role 'assistant'")
    return messages


def read_template(path: Path) -> str:
    """Read a chat template. Raises UsageError (2) if the file cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"no chat template can be read from {path}: {error}", "name a file with a Jinja template"
        ) from error
