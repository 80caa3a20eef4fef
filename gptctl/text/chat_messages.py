"""Messages as OpenAI's format has them: a role, a content that is text, parts or null, and calls of tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gptctl.core.errors import DataError

Message = Mapping[str, Any]
ASSISTANT = "assistant"


def is_learned(message: Message) -> bool:
    """Return whether a message is a turn of the assistant whose weight is not 0."""
    return bool(message["role"] == ASSISTANT and message.get("weight", 1) != 0)


def plain_message(message: Message) -> dict[str, Any]:
    """Return a message of OpenAI's format with its content as text, and the arguments of its calls as tables.

    Keys without a value, as tables have them, are left out.
    """
    found = {key: value for key, value in message.items() if value is not None and key != "weight"}
    content = found.get("content")
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in content]
        if any(part.get("type", "text") != "text" or not isinstance(part.get("text"), str) for part in parts):
            raise DataError("a message has a part that is not text", "gptctl models read text only")
        content = "".join(part["text"] for part in parts)
    found["content"] = "" if content is None else content
    if calls := found.get("tool_calls"):
        found["tool_calls"] = [plain_call(call) for call in calls]
    return found


def plain_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call of a tool with its arguments as a table, where they are JSON text."""
    function = call.get("function")
    if isinstance(function, dict):
        return call | {"function": plain_call(function)}
    try:
        arguments = json.loads(call["arguments"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return call
    return call | {"arguments": arguments}


def read_messages(text: str) -> list[Message]:
    """Read a conversation from JSON text.

    Raises DataError (3) if it is not a list of messages with role and content, or has nothing from the assistant that
    is learned.
    """
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the messages are not JSON: {error}", "a list of {role, content}") from error
    if not isinstance(messages, list) or not all(map(is_message, messages)):
        raise DataError("not a list of messages with role and content", "name it with --text-column")
    turns = [message for message in messages if is_learned(message)]
    if not any(message.get("content") or message.get("tool_calls") for message in turns):
        raise DataError("the assistant says nothing", "remove it, or name its role 'assistant'")
    return messages


def is_message(value: Any) -> bool:
    """Return whether a value is a message: a role, and a text, a list of parts, or calls of tools."""
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        return False
    calls = value.get("tool_calls")
    has_calls = isinstance(calls, list) and bool(calls) and all(isinstance(call, dict) for call in calls)
    return isinstance(value.get("content"), str | list) or (value.get("content") is None and has_calls)
