"""IP addresses, checked by ipaddress. Version numbers, section numbers, times and C++ scopes look like them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from gptctl.text.pii.rule import Found

IPV4_GUARD = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"
IPV6_GUARD = r"[23fF][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:"
# Not inside of a word, a longer dotted number or a file name (1.2.3.4.5, v1.2.3.4, lib-1.2.3.4.zip, 1.2.3.4-beta).
IPV4 = re.compile(r"(?<![A-Za-z0-9_.])(?<![A-Za-z]-)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![A-Za-z0-9_]|\.[0-9]|-[A-Za-z])")
NUMBERED = re.compile(
    r"(?:\b(?:v|ver|version|release|rev|revision|build|firmware|kernel|section|sec|chapter|clause|figure|table|appendix"
    r"|oid)s?|§)[\s.:=\"'#(]{0,4}v?\Z",
    re.IGNORECASE,
)
NUMBERED_CHARACTERS = 20
# One digit each, where a heading's number would be: "8.5.1.2. Arrays". An access log's "8.8.8.8 - -" is none.
HEADING = re.compile(r"(?:\A|\n)[\s#*.0-9-]*\Z")
SINGLE_DIGITS = re.compile(r"(?:[0-9]\.){3}[0-9](?=\.?[ \t]+[^\W\d_])")
# At least two groups of hexadecimal digits, the first one of four: what a::b or std::vector never is.
IPV6 = re.compile(
    r"(?<![A-Za-z0-9_:.])[23fF][0-9A-Fa-f]{3}(?:::?[0-9A-Fa-f]{1,4}){1,7}(?:::)?(?![A-Za-z0-9_]|:[0-9A-Fa-f:])"
)
SLICE = re.compile(r"[0-9]{4}::[0-9]{1,4}")  # values[2000::5]
GLOBAL_UNICAST = 0b001  # the first three bits: 2000::/3, all that IANA has given out


def find_ipv4(text: str, keep_private: bool) -> Iterator[Found]:
    """Find IPv4 addresses; where `keep_private`, only those that the whole internet can reach. Multicast never."""
    for match in IPV4.finditer(text):
        try:
            address = IPv4Address(match[0])
        except AddressValueError:  # 999.1.1.1, 01.2.3.4
            continue
        reachable = address.is_global or not keep_private
        before = text[max(0, match.start() - NUMBERED_CHARACTERS) : match.start()]
        heading = HEADING.search(before) and SINGLE_DIGITS.match(text, match.start())
        if reachable and not address.is_multicast and not NUMBERED.search(before) and not heading:
            yield Found(*match.span(), "ipv4")


def find_ipv6(text: str, keep_private: bool) -> Iterator[Found]:
    """Find IPv6 addresses: global unicast, and unless `keep_private`, unique local, link-local and documentation ones.

    Two groups without a letter (2600::1) are left: they may be a slice. So is ::1, which is one in values[::1].
    """
    for match in IPV6.finditer(text):
        if SLICE.fullmatch(match[0]):
            continue
        try:
            address = IPv6Address(match[0])
        except AddressValueError:
            continue
        reachable = address.is_global and int(address) >> 125 == GLOBAL_UNICAST
        if reachable or (not keep_private and address.is_private):
            yield Found(*match.span(), "ipv6")
