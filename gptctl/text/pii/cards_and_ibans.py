"""Find the numbers of payment cards and bank accounts by their check digits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gptctl.text.pii.pii_kind import Match

CARD_PREFILTER = r"[0-9]{13}|[0-9]{4}[ -][0-9]{4,6}[ -][0-9]{4}"
# Digits without separators, or in the groups that are printed on cards: 4-4-4-1 to 4-4-4-4-3, and American Express'
# 4-6-5.
CARD = re.compile(
    r"(?<![A-Za-z0-9_.+-])"
    r"(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})"
    r"(?![A-Za-z0-9_]|[.-][0-9])"
)
# First digits and lengths of ISO/IEC 7812 issuers: Visa, Mastercard, American Express, Diners Club, JCB, Discover,
# Mir, UnionPay, Maestro, RuPay.
ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11,16}|3095[0-9]{10,15}|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"
    r"|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}|220[0-4][0-9]{12,15}|62[0-9]{14,17}"
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{9,15}|(?:60|81|82)[0-9]{14}|508[0-9]{13}"
)
LAST_GROUP = re.compile(r"[ -][0-9]+\Z")
IBAN_PREFILTER = r"[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]){11}"
IBAN_START = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2})[0-9]{2}(?= ?[0-9A-Z])")
# Characters of an IBAN: SWIFT's IBAN Registry.
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def find_cards(text: str) -> Iterator[Match]:
    """Find card numbers of known issuers that pass Luhn's check (ISO/IEC 7812-1, annex B).

    13 digits that are a valid EAN count as a bar code. German bar codes begin with 4 like Visa's numbers, which have
    had 16 digits for decades.
    """
    for match in CARD.finditer(text):
        number = match[0]
        while not is_card(number) and (cut := LAST_GROUP.search(number)):
            number = number[: cut.start()]  # the group is another number, such as the date 12/27 of a card
        if is_card(number):
            yield Match(match.start(), match.start() + len(number), "card")


def is_card(number: str) -> bool:
    """Return whether a number, which may have spaces or hyphens, is that of a card."""
    digits = re.sub("[ -]", "", number)
    return ISSUERS.fullmatch(digits) is not None and luhn(digits) and not (len(number) == 13 and ean(digits))


def luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit: from the right, every second digit counts twice."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(doubled)) % 10 == 0


def ean(digits: str) -> bool:
    """Return whether 13 digits are a bar code (GS1: every second digit counts three times)."""
    return (sum(map(int, digits[::2])) + 3 * sum(map(int, digits[1::2]))) % 10 == 0


def find_ibans(text: str) -> Iterator[Match]:
    """Find account numbers that have their country's length and are 1 modulo 97 (ISO 13616), with or without spaces."""
    for match in IBAN_START.finditer(text):
        rest = IBAN_LENGTHS.get(match[1], 0) - 4
        whole = re.compile(rf"(?: ?[0-9A-Z]){{{rest}}}(?![A-Za-z0-9])").match(text, match.end()) if rest > 0 else None
        if whole is None:
            continue
        rearranged = whole[0].replace(" ", "") + match[0]
        if int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1:
            yield Match(match.start(), whole.end(), "iban")
