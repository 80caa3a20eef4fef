"""Find telephone numbers with separators: E.123 and its international, American, British and French formats.

Other formats, such as the German 030 901820, are found only after a word such as "Tel." or "fax". Dates, ISBNs, DOIs,
decimal numbers and hashes have none of these formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gptctl.text.pii.pii_kind import Match

DIGITS = range(7, 16)  # E.164 allows 15 with the country code
# Country codes of ITU-T E.164; most other codes are not assigned.
COUNTRY = (
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|(?:2[1-689]|3[578]|42|5[09]|6[7-9]|8[0578]|9[679])[0-9])"
)
INTERNATIONAL = (
    rf"\+{COUNTRY}(?:[ -]?(?:\([0-9]{{1,4}}\)[ -]?)?[0-9]{{1,5}}(?:[ /-][0-9]{{1,8}}){{1,5}}"
    r"|[ -][0-9]{7,12}|(?:\.[0-9]{2,4}){2,4})"
)
AMERICAN = (
    r"(?:\+?1[ .-]?)?(?:\([2-9][0-9]{2}\) ?[0-9]{3}[ .-]"
    r"|[2-9][0-9]{2}(?:-[0-9]{3}-|\.[0-9]{3}\.| [0-9]{3}-))[0-9]{4}(?: ?(?:x|ext\.?) ?[0-9]{1,5})?"
)
BRITISH = r"0[1-9](?:[0-9][ -][0-9]{4}[ -][0-9]{4}|[0-9]{2}[ -][0-9]{3}[ -][0-9]{4}|[0-9]{3}[ -][0-9]{3} ?[0-9]{3})"
FRENCH = r"0[1-9](?:(?: [0-9]{2}){4}|(?:\.[0-9]{2}){4}|(?:-[0-9]{2}){4})"
NAMED = (
    r"(?i:\b(?:tel|t\x{e9}l|ph|phone|telephone|t\x{e9}l\x{e9}phone|telefon|tel\x{e9}fono|telefono|mobile|mobil|handy"
    r"|cell|fax|call|whatsapp|hotline)\b[ .:#)\]]{0,4}(?:(?:no|nr|number|me|us|at|is|on)\b[ .:]{0,3}){0,3})"
)
NUMBER = r"(?P<number>\(?\+?[0-9](?:[ ()./-]{0,2}[0-9]){6,14})"

PREFILTER = "|".join([INTERNATIONAL, AMERICAN, BRITISH, FRENCH, NAMED + NUMBER])
# Not inside words, longer numbers and paths. Digits and spaces alone do not match within a row of numbers either.
BEFORE, AFTER = r"(?<![A-Za-z0-9_+.])", r"(?![A-Za-z0-9_]|[./-][0-9])"
FORMATS = re.compile(
    rf"{BEFORE}{INTERNATIONAL}{AFTER}|{BEFORE}(?<![/-])"
    rf"(?:{AMERICAN}{AFTER}|(?<![0-9] )(?:{BRITISH}|{FRENCH}){AFTER}(?! [0-9]))"
)
AFTER_WORD = re.compile((NAMED + NUMBER).replace(r"\x{e9}", "é") + AFTER)
OTHER_NUMBERS = re.compile(
    r"(?:[0-9]{4}[./-][0-9]{1,2}[./-][0-9]{1,2}|[0-9]{1,2}[./-][0-9]{1,2}[./-](?:[0-9]{2}|[0-9]{4}))(?: .*)?"  # dates
    r"|[0-9]+\.[0-9]+|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|97[89][ -].*|10\.[0-9]{4,}/.*"  # decimals, IPv4, ISBN-13, DOI
)


def find(text: str) -> Iterator[Match]:
    """Find telephone numbers."""
    for match in FORMATS.finditer(text):
        number = trim_number(match[0])
        if number:
            yield Match(match.start(), match.start() + len(number), "phone")
    for match in AFTER_WORD.finditer(text):
        number = match["number"]
        separated = number.startswith("+") or not number.isdigit()
        if separated and count_digits(number) in DIGITS and not OTHER_NUMBERS.fullmatch(number):
            yield Match(*match.span("number"), "phone")


def trim_number(number: str) -> str:
    """Remove groups that belong to the next number from the end of a long one; return "" if it is too short."""
    while count_digits(number) > DIGITS[-1]:
        number = re.sub(r"[ ./-][0-9]+\Z", "", number)
    return number if count_digits(number) > DIGITS[0] else ""


def count_digits(number: str) -> int:
    """Count the digits of a number that may have an extension."""
    return sum(map(str.isdigit, re.split(r" ?[xe]", number)[0]))
