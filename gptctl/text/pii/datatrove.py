"""Replace e-mail and IPv4 addresses exactly as datatrove 0.10.1's PIIFormatter does, including its known bugs.

Its replacements alternate: the first address becomes email@example.com, the second firstname.lastname@example.org, and
so on across documents. Here they restart with each call, that is with each shard, so that the output does not depend on
the number of workers. The IPv4 rule ignores boundaries (999.1.1.1 becomes 922.214.171.124), and masking twice differs
from masking once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address
from itertools import cycle

EMAILS = ("email@example.com", "firstname.lastname@example.org")
ADDRESSES = ("22.214.171.124", "126.96.36.199", "188.8.131.52", "184.108.40.206", "220.127.116.11", "18.104.22.168")
PREFILTERS = {"email": "@", "ipv4": r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"}
ATOM = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~-")
OCTET = r"(?:2(?:5[0-5]|[0-4][0-9])|[01]?[0-9][0-9]?)"
LABEL = r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+"
HOST = re.compile(rf"(?:{LABEL}\.)+{LABEL}|\[(?:{OCTET}\.){{3}}(?:{OCTET}|[A-Za-z0-9-]*[A-Za-z0-9]:)\]")
IPV4 = re.compile(rf"(?:{OCTET}\.){{3}}{OCTET}")


def masker(kinds: Sequence[str]) -> Callable[[str, Counter[str]], str]:
    """Return a function that masks one text at a time and counts the replacements, which alternate across calls.

    The kinds that it masks are "email" and "ipv4".
    """
    emails, addresses = cycle(EMAILS), cycle(ADDRESSES)

    def ipv4(match: re.Match[str]) -> str:
        return next(addresses) if is_global(match[0]) else match[0]

    def mask(text: str, counts: Counter[str]) -> str:
        if "email" in kinds and "@" in text:
            parts: list[str] = []
            end = 0
            for start, stop in find_emails(text):
                parts += [text[end:start], next(emails)]
                end = stop
                counts["email"] += 1
            text = "".join([*parts, text[end:]])
        if "ipv4" in kinds:
            counts["ipv4"] += sum(is_global(address) for address in IPV4.findall(text))
            text = IPV4.sub(ipv4, text)
        return text

    return mask


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Find e-mail addresses by searching in both directions from each @.

    The local part is an RFC 5322 dot-atom that starts at a word boundary. The result is that of a search with
    datatrove's expression, but the time grows linearly with the length of the text instead of quadratically.
    """
    end = 0
    at = text.find("@")
    while at >= 0:
        host = HOST.match(text, at + 1)
        start = local_start(text, end, at) if host else None
        if host and start is not None:
            yield start, host.end()
            end = host.end()
        at = text.find("@", max(at + 1, end))


def local_start(text: str, first: int, at: int) -> int | None:
    """Return the start of the longest local part before an @, at or after `first`, or None if there is none."""
    best = None
    position = at - 1
    while position >= first:
        character = text[position]
        if character == ".":
            if position + 1 == at or text[position + 1] == ".":
                break
        elif character not in ATOM:
            break
        elif is_word(character) != (position > 0 and is_word(text[position - 1])):
            best = position
        position -= 1
    return best


def is_word(character: str) -> bool:
    """Return whether a regular expression's \\w matches."""
    return character.isalnum() or character == "_"


def is_global(address: str) -> bool:
    """Return whether an address is globally reachable. An invalid address (01.2.3.4) is not."""
    try:
        return IPv4Address(address).is_global
    except AddressValueError:
        return False
