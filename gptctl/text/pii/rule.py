"""What the kinds of personal data have in common: a guard for whole columns, a search in one text, a placeholder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

PLACEHOLDERS = ("<EMAIL>", "<IPV4>", "<IPV6>", "<PHONE>", "<CARD>", "<IBAN>", "<KEY>")


class Found(NamedTuple):
    """A place in a text, in characters, and the rule that found it ("email", "jwt")."""

    start: int
    end: int
    rule: str


@dataclass(frozen=True)
class Kind:
    """One kind of personal data.

    `guard`: a regular expression in RE2's syntax; it matches every text in which `find` finds something, and few other.
    """

    name: str
    placeholder: str
    guard: str
    find: Callable[[str], Iterable[Found]]

    def replace(self, text: str, counts: Counter[str]) -> str:
        """Put placeholders into a text, and count what they replace by rule. Of two that overlap, the first counts.

        What touches a placeholder was inside of a word or a longer number before that was there, and is left. Without
        this, each of 10,000 phone numbers in one piece would be found only once its neighbour is gone.
        """
        parts: list[str] = []
        end = 0
        for found in sorted(self.find(text)):
            touches = text.endswith(PLACEHOLDERS, 0, found.start) or text.startswith(PLACEHOLDERS, found.end)
            if found.start >= end and not touches:
                parts += [text[end : found.start], self.placeholder]
                end = found.end
                counts[found.rule] += 1
        return "".join([*parts, text[end:]]) if parts else text
