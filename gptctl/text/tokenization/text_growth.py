"""How much longer the rules of a tokenizer.json can make a text.

Rules that replace text act one after the other. Twenty of them that double each letter make a million letters of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MAX_GROWTH = 100  # times the length of a text; the rules of open models replace a character by one, or by a few bytes
LISTS = {"normalizer": "normalizers", "decoder": "decoders"}


def text_growth(definition: dict[str, Any]) -> float:
    """Return how many times as long a text can become, by the rules before encoding or by those after decoding."""
    largest = 1.0
    for part, items in LISTS.items():
        growth = 1.0
        for step in steps_of(definition.get(part), items):
            growth *= growth_of(step)
        largest = max(largest, growth)
    return largest


def steps_of(rule: Any, items: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of a rule in their order. A sequence has them in a list, also within others."""
    if not isinstance(rule, dict):
        return
    if rule.get("type") != "Sequence":
        yield rule
        return
    for step in rule.get(items) or []:
        yield from steps_of(step, items)


def growth_of(step: dict[str, Any]) -> float:
    """Return how many times as long a text can become by one step."""
    content = step.get("content")
    if step.get("type") != "Replace" or not isinstance(content, str):
        return 1.0
    pattern = step.get("pattern") or {}
    replaced = pattern.get("String")
    if isinstance(replaced, str) and replaced:
        return max(1.0, len(content) / len(replaced))
    return len(content) + 1.0 if matches_nothing(pattern.get("Regex")) else max(1.0, len(content))


def matches_nothing(pattern: Any) -> bool:
    """Return whether a regular expression can match between two characters, where its replacement only adds text."""
    try:
        return not pattern or bool(re.match(str(pattern), ""))
    except (re.error, RecursionError, OverflowError):  # the syntax of tokenizers differs in part
        return False
