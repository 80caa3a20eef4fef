"""One kind of personal data: a prefilter for whole columns, a search in one text, and a placeholder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

PLACEHOLDERS = ("<EMAIL>", "<IPV4>", "<IPV6>", "<PHONE>", "<CARD>", "<IBAN>", "<KEY>")


class Match(NamedTuple):
    """A range of characters in a text, and the rule that found it ("email", "jwt")."""

    start: int
    end: int
    rule: str


@dataclass(frozen=True)
class PiiKind:
    """One kind of personal data.

    `prefilter` is a regular expression in RE2's syntax. It matches every text in which `find` finds something, and few
    others.
    """

    name: str
    placeholder: str
    prefilter: str
    find: Callable[[str], Iterable[Match]]

    def replace(self, text: str, counts: Counter[str]) -> str:
        """Replace matches by placeholders, and count them by rule. Of two matches that overlap, the first one counts.

        A match that touches a placeholder is not replaced, because it was part of a word or of a longer number before.
        Otherwise, each of 10,000 phone numbers without a separator would be found once its neighbour is replaced.
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
