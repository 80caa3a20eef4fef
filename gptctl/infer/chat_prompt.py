"""The prompt of a chat model: what the user says, or a whole conversation as JSON."""

from __future__ import annotations

import json
from typing import Any

from gptctl.text.chat import ChatTemplate, Extras
from gptctl.text.chat_formats import EXTRAS
from gptctl.text.chat_messages import Message


def chat_prompt(template: ChatTemplate, text: str, system: str | None = None) -> list[int]:
    """Return the tokens after which the assistant answers `text`.

    That is a user message, a JSON list of messages, or a JSON object with `messages` and optionally `tools` and
    `documents`, as requests to OpenAI's interface have them.
    """
    found = parse_json(text)
    extras: Extras = {}
    if isinstance(found, dict) and are_messages(found.get("messages")):
        extras = {name: value for name in EXTRAS if isinstance(value := found.get(name), list)}
        found = found["messages"]
    messages = found if are_messages(found) else [{"role": "user", "content": text}]
    return template.prompt([*system_messages(system), *messages], extras)


def system_messages(system: str | None) -> list[Message]:
    """Return the system message as a list, empty if there is none."""
    return [] if system is None else [{"role": "system", "content": system}]


def parse_json(text: str) -> Any:
    """Return the list or the object that a text is in JSON, or None for any other text."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def are_messages(value: Any) -> bool:
    """Return whether a value is a list of objects with a role, and a content or calls of tools."""
    if not isinstance(value, list) or not value:
        return False
    keys = [turn.keys() if isinstance(turn, dict) else () for turn in value]
    return all("role" in turn and ("content" in turn or "tool_calls" in turn) for turn in keys)
