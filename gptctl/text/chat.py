"""Conversations as tokens: a Jinja template writes them out, and only what the assistant says is learned.

A template is what Hugging Face's tokenizer_config.json calls chat_template: it gets `messages` (role and content),
`add_generation_prompt`, and the names of special tokens. It runs in a sandbox that reaches nothing outside.
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
# ChatML, which most open models' templates follow.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ASSISTANT = "assistant"
# Stands behind the first character where a message spells a special token: what users write never is one.
SPELLED = "\ue0f0"

Message = Mapping[str, Any]


class ChatTemplate:
    """A template and the tokenizer that reads what it writes."""

    def __init__(self, source: str, coder: Tokenizer) -> None:
        """Parse a template. Raises UsageError (2) if it can't be parsed."""
        self.source = source
        self.coder = coder
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        try:
            self.template = environment.from_string(source)
        except TemplateError as error:
            raise UsageError(f"the chat template can't be parsed: {error}", "see jinja.palletsprojects.com") from error

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """Write a conversation out, perhaps up to where the assistant speaks next.

        Raises DataError (3) where the template refuses it.
        """
        names = {"eos_token": self.coder.end_of_text, "bos_token": self.coder.end_of_text, "tools": None}
        try:
            return self.template.render(messages=messages, add_generation_prompt=add_generation_prompt, **names)
        except (TemplateError, TypeError, KeyError) as error:
            raise DataError(
                f"the chat template refuses a conversation: {error}", "a message has role and content"
            ) from error

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens after which the assistant speaks; end-of-text stands before a conversation."""
        return [self.coder.end_of_text_id, *self.encode(self.render(self.masked(messages), True))]

    def conversation(self, messages: Sequence[Message]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return a conversation's tokens (T,), and which of them the assistant says (T,), the end of its turns
        included.

        Each turn is encoded by itself, after what stands before it, as it will be when the model speaks.
        Raises DataError (3) where the template changes what stands before a later turn.
        """
        messages = self.masked(messages)
        tokens, learned, text = [self.coder.end_of_text_id], [False], ""
        for number, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            before = self.render(messages[:number], True)
            after = self.render(messages[: number + 1])
            if not (before.startswith(text) and after.startswith(before)):
                raise DataError(
                    "the chat template writes earlier turns otherwise once later ones follow",
                    "give a template under which a conversation only grows: --set chat_template=FILE",
                )
            asked, said = self.encode(before[len(text) :]), self.encode(after[len(before) :])
            ends = [place for place, token in enumerate(said) if token in self.coder.special_ids]
            last = ends[-1] + 1 if ends else len(said)  # what follows the end of a turn, a newline mostly, is not said
            tokens += asked + said
            learned += [False] * len(asked) + [True] * last + [False] * (len(said) - last)
            text = after
        return np.array(tokens, np.int64), np.array(learned)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of what was rendered."""
        return self.coder.encode_marked(text, SPELLED)

    def masked(self, messages: Sequence[Message]) -> list[Message]:
        """Mark special tokens that messages spell, so that they stay text."""
        return [
            message | {"content": self.coder.mask_special(message["content"], SPELLED)}
            if isinstance(message.get("content"), str)
            else message
            for message in map(dict, messages)
        ]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Return the tokens that end a turn: the last special one that the template writes after it, and
        end-of-text."""
        turn = [{"role": "user", "content": "a"}, {"role": ASSISTANT, "content": "b"}]
        tokens, learned = self.conversation(turn)
        last = int(tokens[learned][-1])
        special = (last,) if last in self.coder.special_ids else ()
        return tuple(dict.fromkeys((*special, self.coder.end_of_text_id)))


def _raise(message: str) -> None:
    raise TemplateError(message)


def read_messages(text: str, where: str) -> list[Message]:
    """Read a conversation from JSON text.

    Raises DataError (3) if it is no list of messages with role and content, or the assistant says nothing in it.
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
    """Read a chat template. Raises UsageError (2) if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"no chat template can be read from {path}: {error}", "give a file with Jinja text") from error
