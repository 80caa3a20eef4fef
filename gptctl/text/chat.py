"""Turn conversations into tokens: a Jinja template renders them, and only what the assistant says is trained on.

A template is what Hugging Face's tokenizer_config.json calls chat_template. It receives `messages` (role, content and
tool_calls), `tools`, `documents`, `add_generation_prompt`, and the names of special tokens. It runs in a sandbox
without access to anything else. `{% generation %}` blocks mark what is trained on, as in transformers. A turn whose
`weight` is 0 is not trained on, as in OpenAI's format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptctl.core.errors import DataError, UsageError
from gptctl.core.regular_files import read_small
from gptctl.text.chat_messages import ASSISTANT, Message, is_learned, plain_message
from gptctl.text.chat_probes import Probes
from gptctl.text.chat_render import END_OF_SAID, SAID, Rendered, Request, TemplateRenderer
from gptctl.text.tokenizer import Tokenizer

TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"
MARKERS = (TURN, END_OF_TURN)
# Inserted after the first character of a special token in a message, so that users cannot write special tokens.
MASK = "\ue0f0"
END_OF_THOUGHT = "</think>"
APPENDS = "use a template that only appends text for a new turn, or with generation blocks: --set chat_template=FILE"

Extras = Mapping[str, Sequence[Any]]  # `tools` and `documents` of a conversation
NO_EXTRAS: Extras = {}
Sample = tuple[NDArray[np.int64], NDArray[np.bool_]]  # tokens (T,), and which of them are learned (T,)


class EarlierTurnsChangeError(DataError):
    """A template renders earlier turns otherwise once later ones follow."""


class ChatTemplate:
    """A template, and the tokenizer that encodes the rendered text."""

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        """Parse a template. Raises DataError (3) if it cannot be parsed."""
        self.source = source
        self.tokenizer = tokenizer
        self.renderer = TemplateRenderer(source)
        self.marks_generation = self.renderer.marks_generation

    def close(self) -> None:
        """End the process that renders. The next rendering starts another one."""
        self.renderer.close()

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = False, extras: Extras = NO_EXTRAS
    ) -> str:
        """Render a conversation as text, with `add_generation_prompt` up to where the assistant's next turn begins.

        Raises DataError (3) if the template rejects the conversation, or leaves out a call of a tool, a tool, a
        document, what the user says, or what the assistant says or thinks in its last turn.
        """
        return self.render_all([(messages, add_generation_prompt)], extras)[0].text

    def render_all(
        self,
        conversations: Sequence[tuple[Sequence[Message], bool]],
        extras: Extras = NO_EXTRAS,
        marks: Sequence[bool] | None = None,
    ) -> list[Rendered]:
        """Render conversations as `render` does. `marks` says which turns of the assistant are learned."""
        probes = [Probes() for _ in conversations]
        probed = [
            self.request(probe.messages(messages), is_prompt, probe.extras(extras))
            for probe, (messages, is_prompt) in zip(probes, conversations, strict=True)
        ]
        requests = [self.request(messages, is_prompt, extras, marks) for messages, is_prompt in conversations]
        requests += [request for probe, request in zip(probes, probed, strict=True) if probe.names]
        rendered = self.renderer.render(requests)
        found, of_probes = rendered[: len(conversations)], iter(rendered[len(conversations) :])
        for (messages, _), (text, _), probe in zip(conversations, found, probes, strict=True):
            check_contents(messages, text)
            if probe.names:
                probe.check(next(of_probes).text)
        return found

    def request(
        self, messages: Sequence[Message], is_prompt: bool, extras: Extras, marks: Sequence[bool] | None = None
    ) -> Request:
        """Return what the template is given for a conversation."""
        return {
            "messages": messages,
            "add_generation_prompt": is_prompt,
            "tools": extras.get("tools") or None,
            "documents": extras.get("documents") or None,
            "eos_token": self.tokenizer.end_of_text,
            "bos_token": self.tokenizer.bos_token or "",
            "marks": marks,
        }

    def prompt(self, messages: Sequence[Message], extras: Extras = NO_EXTRAS) -> list[int]:
        """Return the tokens up to the assistant's next turn. In gptctl's own models end-of-text comes first.

        Raises DataError (3) if there are none.
        """
        text = self.render(self.prepare(messages), True, self.mask_special(extras))
        ids = [*self.tokenizer.chat_prefix_ids, *self.encode(text)]
        if not ids:
            raise DataError("the chat template writes nothing", "use another one: --set chat_template=FILE")
        return ids

    def samples(self, messages: Sequence[Message], extras: Extras = NO_EXTRAS) -> list[Sample]:
        """Return a conversation as training samples in which each of the assistant's turns is learned once.

        That is one sample if the template marks what is learned, or only appends text for a new turn. Other templates
        give a sample for each turn, which is rendered as when the model generates it. `extras` are the tools and
        documents that the template is given. Raises DataError (3) if nothing can be learned.
        """
        if self.marks_generation:
            return [self.marked_conversation(messages, extras)]
        try:
            return [self.conversation(messages, extras)]
        except EarlierTurnsChangeError:
            turns = [number for number, message in enumerate(messages) if is_learned(message)]
            return [self.turn(messages[: number + 1], extras) for number in turns]

    def conversation(self, messages: Sequence[Message], extras: Extras = NO_EXTRAS) -> Sample:
        """Return the tokens (T,) of a conversation, and a mask (T,) of those that the assistant says.

        The mask includes the end of the assistant's turns. Each turn is encoded by itself after the text before it, as
        when the model generates it. Raises DataError (3) if the template changes earlier text when a turn is added.
        """
        learns = [is_learned(message) for message in messages]
        messages, extras = self.prepare(messages), self.mask_special(extras)
        turns = [number for number, message in enumerate(messages) if message["role"] == ASSISTANT]
        parts = [part for number in turns for part in ((messages[:number], True), (messages[: number + 1], False))]
        rendered = iter(self.render_all(parts, extras))
        tokens, text = list(self.tokenizer.chat_prefix_ids), ""
        is_said = [False] * len(tokens)
        for number in turns:
            before, after = next(rendered).text, next(rendered).text
            if not (before.startswith(text) and after.startswith(before)):
                raise EarlierTurnsChangeError(
                    "adding a turn changes how the chat template renders earlier turns",
                    APPENDS,
                )
            prompt, (turn, said) = self.encode(before[len(text) :]), self.encode_turn(after[len(before) :])
            tokens += prompt + turn
            is_said += [False] * len(prompt) + [learns[number]] * said + [False] * (len(turn) - said)
            text = after
        return np.array(tokens, np.int64), np.array(is_said)

    def turn(self, messages: Sequence[Message], extras: Extras = NO_EXTRAS) -> Sample:
        """Return the tokens of a conversation up to its last turn, which alone is learned."""
        messages, extras = self.prepare(messages), self.mask_special(extras)
        (before, _), (after, _) = self.render_all([(messages[:-1], True), (messages, False)], extras)
        if not after.startswith(before):
            raise EarlierTurnsChangeError(
                "a turn of the assistant does not begin as the chat template's prompt for it",
                APPENDS,
            )
        prompt, (turn, said) = self.encode(before), self.encode_turn(after[len(before) :])
        prefix = self.tokenizer.chat_prefix_ids
        is_said = [False] * (len(prefix) + len(prompt)) + [True] * said + [False] * (len(turn) - said)
        return np.array([*prefix, *prompt, *turn], np.int64), np.array(is_said)

    def marked_conversation(self, messages: Sequence[Message], extras: Extras = NO_EXTRAS) -> Sample:
        """Return the tokens of a conversation, of which those are learned that the template marks.

        The text is encoded as a whole, as by transformers. Raises DataError (3) if nothing is marked.
        """
        learned = [is_learned(message) for message in messages if message["role"] == ASSISTANT]
        [(text, blocks)] = self.render_all([(self.prepare(messages), False)], self.mask_special(extras), learned)
        if not all(learned) and blocks != len(learned):
            raise DataError(
                f"the chat template marks {blocks} parts of {len(learned)} turns, so it is unknown "
                "which of them have weight 0",
                "use a template with one generation block for each turn: --set chat_template=FILE",
            )
        ids, is_said = self.tokenizer.encode_spans(text, MASK, (SAID, END_OF_SAID))
        if not any(is_said):
            raise DataError(
                "the chat template marks nothing of a conversation for training", "see its generation blocks"
            )
        prefix = self.tokenizer.chat_prefix_ids
        return np.array([*prefix, *ids], np.int64), np.array([False] * len(prefix) + is_said)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a rendered text."""
        return self.tokenizer.encode_marked(text, MASK)

    def encode_turn(self, text: str) -> tuple[list[int], int]:
        """Return the tokens of a turn, and how many are learned: up to its last special token.

        The text after the end of a turn, mostly a newline, is not trained on.
        """
        turn = self.encode(text)
        ends = [position for position, token in enumerate(turn) if token in self.tokenizer.special_ids]
        return turn, ends[-1] + 1 if ends else len(turn)

    def prepare(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return messages as templates take them, with marks in the special tokens that they spell.

        Contents are texts, and arguments of calls are tables. Raises DataError (3) for contents that are not text.
        """
        return [self.mask_special(plain_message(message)) for message in messages]

    def mask_special(self, value: Any) -> Any:
        """Mark the special tokens that texts contain, so that they are encoded as text."""
        if isinstance(value, str):
            return self.tokenizer.mask_special(value.replace(SAID, "").replace(END_OF_SAID, ""), MASK)
        if isinstance(value, Mapping):
            return {key: self.mask_special(item) for key, item in value.items()}
        return [self.mask_special(item) for item in value] if isinstance(value, list) else value

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Return the tokens that end a turn: the special tokens that the template renders after it, and end-of-text."""
        answer = "reply"
        turns = self.prepare([{"role": "user", "content": "a"}, {"role": ASSISTANT, "content": answer}])
        after = self.encode(self.render(turns).rpartition(answer)[2])
        ends = [token for token in reversed(after) if token in self.tokenizer.special_ids]
        return tuple(dict.fromkeys((*ends, self.tokenizer.end_of_text_id)))


def check_contents(messages: Sequence[Message], text: str) -> None:
    """Raise DataError (3) if a text leaves out what the user says, or what the assistant says in its last turn."""
    for number, message in enumerate(messages):
        is_last = number == len(messages) - 1
        if message["role"] == "user" or (message["role"] == ASSISTANT and is_last):
            content = str(message["content"]).split(END_OF_THOUGHT)[-1].strip()
            if content not in text:
                raise DataError(
                    f"the chat template leaves out what the {message['role']} says",
                    "use one that takes contents as text: --set chat_template=FILE",
                )


def read_template(path: Path) -> str:
    """Read a chat template. Raises UsageError (2) if the file cannot be read."""
    try:
        return read_small(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"no chat template can be read from {path}: {error}", "name a file with a Jinja template"
        ) from error
