"""Find IP addresses. Version numbers, section numbers, times and C++ scopes look similar and are excluded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from gptctl.text.pii.pii_kind import Match

IPV4_PREFILTER = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"
IPV6_PREFILTER = r"[23fF][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:"
# Not inside a word, a longer dotted number or a file name (1.2.3.4.5, v1.2.3.4, lib-1.2.3.4.zip, 1.2.3.4-beta).
IPV4 = re.compile(r"(?<![A-Za-z0-9_.])(?<![A-Za-z]-)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![A-Za-z0-9_]|\.[0-9]|-[A-Za-z])")
NUMBERED = re.compile(
    r"(?:\b(?:v|ver|version|release|rev|revision|build|firmware|kernel|section|sec|chapter|clause|figure|table|appendix"
    r"|oid)s?|§)[\s.:=\"'#(]{0,4}v?\Z",
    re.IGNORECASE,
)
NUMBERED_CHARACTERS = 20
# Single digits at the start of a line are the number of a heading: "8.5.1.2. Arrays", but not "8.8.8.8 - -" in a log.
HEADING = re.compile(r"(?:\A|\n)[\s#*.0-9-]*\Z")
SINGLE_DIGITS = re.compile(r"(?:[0-9]\.){3}[0-9](?=\.?[ \t]+[^\W\d_])")
# At least two groups of hexadecimal digits, the first one of four digits, which excludes a::b and std::vector.
IPV6 = re.compile(
    r"(?<![A-Za-z0-9_:.])[23fF][0-9A-Fa-f]{3}(?:::?[0-9A-Fa-f]{1,4}){1,7}(?:::)?(?![A-Za-z0-9_]|:[0-9A-Fa-f:])"
)
SLICE = re.compile(r"[0-9]{4}::[0-9]{1,4}")  # values[2000::5]
GLOBAL_UNICAST = 0b001  # the first three bits: 2000::/3, all that IANA has assigned


def find_ipv4(text: str, keep_private: bool) -> Iterator[Match]:
    """Find IPv4 addresses except multicast; with `keep_private`, only those that are globally reachable."""
    for match in IPV4.finditer(text):
        try:
            address = IPv4Address(match[0])
        except AddressValueError:  # 999.1.1.1, 01.2.3.4
            continue
        reachable = address.is_global or not keep_private
        before = text[max(0, match.start() - NUMBERED_CHARACTERS) : match.start()]
        heading = HEADING.search(before) and SINGLE_DIGITS.match(text, match.start())
        if reachable and not address.is_multicast and not NUMBERED.search(before) and not heading:
            yield Match(*match.span(), "ipv4")


def find_ipv6(text: str, keep_private: bool) -> Iterator[Match]:
    """Find global unicast IPv6 addresses; without `keep_private`, also unique local, link-local and documentation ones.

    Two groups without a letter (2600::1) are ignored because they may be a slice, as is ::1 because of values[::1].
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
            yield Match(*match.span(), "ipv6")
