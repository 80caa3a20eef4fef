"""The prompt of a chat model: what the user says, or a whole conversation as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gptctl.text.chat import ChatTemplate
from gptctl.text.chat_messages import Message


def chat_prompt(template: ChatTemplate, text: str, system: str | None = None) -> list[int]:
    """Return the tokens after which the assistant answers `text`: a user message, or a JSON list of messages."""
    before = system_messages(system)
    return template.prompt([*before, *(parse_messages(text) or [{"role": "user", "content": text}])])


def system_messages(system: str | None) -> list[Message]:
    """Return the system message as a list, empty if there is none."""
    return [] if system is None else [{"role": "system", "content": system}]


def parse_messages(text: str) -> Sequence[Message] | None:
    """Return the messages of a JSON list of objects with role and content, or None for any other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found:
        return None
    return found if all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in found) else None
