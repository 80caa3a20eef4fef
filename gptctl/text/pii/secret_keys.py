"""Find secrets: private keys, tokens, and API keys with a known prefix."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from gptctl.text.pii.pii_kind import Match

# The formats are those in the documentation or the secret scanners of the services.
TOKENS = {
    "aws": r"(?:AKIA|ASIA)[A-Z2-7]{16}",
    "github": r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
    "slack": r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",
    "anthropic": r"sk-ant-[A-Za-z0-9_-]{20,250}",
    "openai": r"sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,250}",
    "google": r"AIza[A-Za-z0-9_-]{35}",
    "stripe": r"[sr]k_live_[A-Za-z0-9]{16,250}",
    "gitlab": r"glpat-[A-Za-z0-9_-]{20,300}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?",
    "npm": r"npm_[A-Za-z0-9]{36}",
    "pypi": r"pypi-AgE[A-Za-z0-9_-]{50,1000}",
    "huggingface": r"hf_[A-Za-z0-9]{30,100}",
    "sendgrid": r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "jwt": r"eyJ[A-Za-z0-9_-]{8,1000}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}",
}
PREFILTER = (
    r"A[KS]IA[A-Z2-7]{16}|gh[pousr]_[A-Za-z0-9]{20}|github_pat_|xox[abeoprs]-|\bsk-[A-Za-z0-9_-]{20}|AIza|[sr]k_live_"
    r"|glpat-|npm_[A-Za-z0-9]{20}|pypi-AgE|hf_[A-Za-z0-9]{20}|SG\.[A-Za-z0-9_-]{20}|eyJ[A-Za-z0-9_-]{8}|PRIVATE KEY"
)
TOKEN = re.compile(
    rf"(?<![A-Za-z0-9_-])(?:{'|'.join(f'(?P<{rule}>{shape})' for rule, shape in TOKENS.items())})(?![A-Za-z0-9_])"
)
PEM_EDGE = re.compile(r"-----(BEGIN|END) (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
PEM_CHARACTERS = 16384  # a 16,384-bit RSA key has 12.6 kB
PEM_BODY = re.compile(r"[A-Za-z0-9+/=]{32}")
PEM_LINES = re.compile(r"(?:(?:\s|\\[rn])*[A-Za-z0-9+/=]{32,76}(?![A-Za-z0-9+/=]))+")  # a block that was cut off


def find(text: str) -> Iterator[Match]:
    """Find secrets. Public keys and certificates are not secrets."""
    yield from find_private_keys(text)
    for match in TOKEN.finditer(text):
        rule = str(match.lastgroup)
        if rule not in CHECKS or CHECKS[rule](match[0]):
            yield Match(*match.span(), rule)


def find_private_keys(text: str) -> Iterator[Match]:
    """Find PEM blocks (RFC 7468), even if the end is missing or line ends are written as \\n."""
    for edge, after in pairwise([*PEM_EDGE.finditer(text), None]):
        if edge is None or edge[1] == "END":
            continue
        whole = after is not None and after[1] == "END" and after.end() - edge.end() <= PEM_CHARACTERS
        if after and whole and PEM_BODY.search(text, edge.end(), after.start()):
            yield Match(edge.start(), after.end(), "pem")
        elif lines := PEM_LINES.match(text, edge.end()):
            yield Match(edge.start(), lines.end(), "pem")


def random_looking(token: str) -> bool:
    """Return whether a token has digits and letters of both cases, unlike sk-fading-circle-wrapper."""
    body = token.partition("-")[2]
    return all(re.search(wanted, body) for wanted in ("[0-9]", "[a-z]", "[A-Z]"))


def has_digit(token: str) -> bool:
    """Return whether a token has a digit, unlike the placeholder xoxb-your-token-here."""
    return any(map(str.isdigit, token))


def has_algorithm(token: str) -> bool:
    """Return whether a token's first part is a JOSE header (RFC 7515, section 4.1.1)."""
    head = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and "alg" in header


CHECKS: dict[str, Callable[[str], bool]] = {
    "openai": random_looking,
    "anthropic": random_looking,
    "slack": has_digit,
    "huggingface": has_digit,
    "jwt": has_algorithm,
}
