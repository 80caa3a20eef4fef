"""Find the character encoding of text: byte order marks first, then UTF-8, then the detector of resiliparse.

The detector is uchardet, which knows the letter frequencies of some thirty languages. What it says is a guess, so it is
checked: all bytes must be valid in the encoding, and the text must consist of characters that texts have.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator

from gptctl.io.input.bounded_lines import Readable

REPLACE = "gptctl.invalid"  # the name of what replaces bytes that do not fit an encoding
AUTO, UTF8 = "auto", "utf-8"
NAMES = {UTF8: "UTF-8"}  # that people write otherwise than Python
MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # it begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
WIDE = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}  # with the bytes of a unit
# Encodings that contain all characters of another, and more.
SUPERSETS = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "tis-620": "cp874", "iso8859-11": "cp874",
    "shift_jis": "cp932", "euc_kr": "cp949", "big5": "cp950", "gb2312": "gb18030", "gbk": "gb18030",
}  # fmt: skip
# Western and rare encodings, which the detector confuses in short texts. They are believed if cp1252 makes no sense.
WESTERN = {
    "cp1252", "iso8859-3", "iso8859-4", "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15", "iso8859-16", "cp850",
    "cp852", "cp1257", "cp1258", "mac_roman", "mac_latin2",
}  # fmt: skip
WESTERN_CHARACTERS = frozenset(
    "àáâãäåæçèéêëìíîïñòóôõöøùúûüßÿœÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŸŒ‘’“”„–—…€£¢§°«»‹›¡¿·•ªº©®™´µ¼½¾²³×\xa0\xad"
)
# Lead and trail bytes of the characters that most texts consist of, for texts too short for the detector.
EAST_ASIAN = {
    "euc_jp": re.compile(rb"[\xa1\xa4\xa5\xb0-\xf4][\xa1-\xfe]"),
    "cp932": re.compile(rb"[\x81-\x83\x88-\x9f\xe0-\xea][\x40-\x7e\x80-\xfc]"),
    "gb18030": re.compile(rb"[\xa1\xa3\xb0-\xf7][\xa1-\xfe]"),
    "cp949": re.compile(rb"[\xa1\xa3\xb0-\xc8][\xa1-\xfe]"),
    "cp950": re.compile(rb"[\xa1-\xa3\xa4-\xf9][\x40-\x7e\xa1-\xfe]"),
}
EUC_KANA = re.compile(rb"[\xa4\xa5][\xa1-\xf6]")
CONTROLS = bytes({*range(9), *range(14, 26), *range(28, 32), 127})  # not white space, escape, and DOS's end of file
ODD = CONTROLS + b"\x1b"  # UTF-16, ISO-2022 and binary files have some of these
MAX_CONTROL_SHARE, MAX_CONTROL_SHARE_UTF8 = 0.01, 0.5
LOW = bytes(range(32))
BLOCK_BYTES, SAMPLE_BYTES, CONTEXT_BYTES = 2**20, 2**18, 500
VALID_UTF8 = re.compile(rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})+")
HIGH = re.compile(rb"[\x80-\xff]+")
HZ = re.compile(rb"~\{((?:[\x21-\x77][\x21-\x7e])+)~\}")
HZ_FREQUENT = frozenset({0x21, 0x23, *range(0x30, 0x58)})  # rows of punctuation and frequent characters of GB 2312
# The escape sequences of ISO-2022-CN, for which Python has no codec. Its characters follow a shift-out (\x0e).
ISO_2022_CN = re.compile(rb"\x1b\$[)*][AGEH]")
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
UKRAINIAN = re.compile(rb"[\xa4\xa6\xa7\xad\xb4\xb6\xb7\xbd][\xc0-\xff]")  # KOI8-R has lines of boxes there
# A blank, line ends, and the full stops and commas of East Asia: a text has one of them at least every 200 characters.
FREQUENT, FREQUENT_SHARE = " \n。，、", 1 / 200


class NotTextError(Exception):
    """Raised for data that is in no known encoding: binary files, and text with damaged bytes."""

    def __init__(self, reason: str, position: str) -> None:
        super().__init__(f"{reason} ({position})")
        self.reason = reason
        self.position = position


def decode(data: bytes, encoding: str = AUTO) -> tuple[str, str]:
    """Return a text and its encoding. `encoding` is the one of a text that is not UTF-8; "auto" detects it.

    Raises NotTextError for binary data, and for a text with bytes that do not fit its encoding.
    """
    if len(data.translate(None, ODD)) == len(data) and not (hz(data) if encoding == AUTO else is_seven_bit(encoding)):
        try:
            return data.decode("utf-8-sig"), UTF8  # as nearly always
        except UnicodeDecodeError:
            pass
    name = detect(data) if encoding == AUTO else marked(data) or chosen(data, encoding)
    if name is None or (name == UTF8 and control_share(data) > MAX_CONTROL_SHARE_UTF8):
        raise NotTextError("binary, or in an unknown encoding", "file")
    try:
        return data.decode(name).removeprefix("\ufeff"), name
    except UnicodeDecodeError as error:
        raise NotTextError(f"not {NAMES.get(name, name)}", f"byte {error.start}") from error


def detect(data: bytes, whole: bool = True) -> str | None:
    """Return the encoding of a text, as Python names it, or None if the data is binary or no encoding fits.

    UTF-8 is also the answer for damaged UTF-8. Unless `whole`, the data is the start of a text, and its last character
    may be cut.
    """
    if name := marked(data):
        return name
    is_utf8 = is_valid(data, UTF8, whole)
    controls = control_share(data)
    may_be_wide = has_low_half(data) if is_utf8 else controls > MAX_CONTROL_SHARE
    if may_be_wide and (wide := unmarked_wide(data)):
        return wide
    if is_utf8:
        unreadable = b"\x0e" in data and ISO_2022_CN.search(data)
        return None if unreadable else iso_2022(data) or hz(data) or UTF8
    if controls > MAX_CONTROL_SHARE:
        return None
    sample = sample_of(data)
    return UTF8 if is_damaged_utf8(sample) else by_letters(data, sample, whole)


def is_valid(data: bytes, encoding: str, whole: bool) -> bool:
    """Return whether data can be decoded. Unless it is the whole text, its last character may be cut."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data, whole)
        return True
    except UnicodeDecodeError:
        return False


def marked(data: bytes) -> str | None:
    """Return the encoding that a byte order mark names."""
    return next((name for mark, name in MARKS if data.startswith(mark)), None)


def chosen(data: bytes, encoding: str, whole: bool = True) -> str:
    """Return UTF-8 if the data is, else the encoding that the user has chosen."""
    is_other = b"\0" in data or b"\x1b$" in data  # UTF-16 and ISO-2022 can look like UTF-8
    is_other = is_other or (data.isascii() and is_seven_bit(encoding))
    return encoding if is_other or not is_valid(data, UTF8, whole) else UTF8


def sample_of(data: bytes) -> bytes:
    """Return parts of the lines that have bytes outside ASCII."""
    parts: list[bytes] = []
    size = position = 0
    while size < SAMPLE_BYTES and (found := HIGH.search(data, position)):
        start, stop = found.span()
        start = max(position, start - CONTEXT_BYTES, data.rfind(b"\n", position, start) + 1)
        stop = min(stop, start + SAMPLE_BYTES)
        line_end = data.find(b"\n", stop, stop + CONTEXT_BYTES)
        position = line_end + 1 if line_end >= 0 else min(stop + CONTEXT_BYTES, len(data))
        parts.append(data[start:position])
        size += position - start
    return b"".join(parts)


def control_share(data: bytes) -> float:
    """Return the share of bytes that are control characters."""
    return 1 - len(data.translate(None, CONTROLS)) / len(data) if data else 0.0


def has_low_half(data: bytes) -> bool:
    """Return whether nearly all bytes at even or at odd places are below 32, as in UTF-16 outside East Asia."""
    halves = (data[:SAMPLE_BYTES:2], data[1:SAMPLE_BYTES:2])
    return b"\0" in data and any(10 * len(half.translate(None, LOW)) <= len(half) for half in halves)


def is_damaged_utf8(sample: bytes) -> bool:
    """Return whether nearly all bytes outside ASCII are valid UTF-8, which other encodings hardly ever are."""
    high, valid = (sum(map(len, pattern.findall(sample))) for pattern in (HIGH, VALID_UTF8))
    return 2 * valid >= high and high - valid <= max(3, high // 5)


def unmarked_wide(data: bytes) -> str | None:
    """Return the UTF-16 or UTF-32 in which data without a byte order mark is a text."""
    for name, unit in WIDE.items():
        try:
            text = codecs.getincrementaldecoder(name)().decode(data[: SAMPLE_BYTES // unit * unit])
        except UnicodeDecodeError:
            continue
        frequent = sum(map(text.count, FREQUENT))
        if frequent >= FREQUENT_SHARE * len(text) and frequent and is_plausible(text):
            return name
    return None


def iso_2022(data: bytes) -> str | None:
    """Return the encoding of data in seven bits that switches between character sets by escape sequences."""
    if b"\x1b$" not in data:
        return None
    found = ask_detector(data[:SAMPLE_BYTES])
    return found if found is not None and found.startswith("iso2022") and is_valid(data, found, False) else None


def hz(data: bytes) -> str | None:
    """Return the encoding HZ if data has Chinese text between ~{ and ~}: pairs of bytes, most of frequent rows."""
    if b"~{" not in data:
        return None
    rows = [row for found in HZ.findall(data[:SAMPLE_BYTES]) for row in found[::2]]
    is_chinese = len(rows) > 1 and sum(row in HZ_FREQUENT for row in rows) >= 0.8 * len(rows)
    return "hz" if is_chinese and is_valid(data, "hz", False) else None


def is_seven_bit(encoding: str) -> bool:
    """Return whether all bytes of an encoding are ASCII. It is believed where the user has chosen it."""
    name = codecs.lookup(encoding).name if encoding != AUTO else AUTO
    return name in ("hz", "utf-7") or name.startswith("iso2022")


def ask_detector(sample: bytes) -> str | None:
    """Return what uchardet takes a sample for."""
    from resiliparse.parse.encoding import detect_encoding

    # WHATWG's names, the default, have none for the encodings of Korean and Thai.
    name: str | None = detect_encoding(sample, max_len=0, html5_compatible=False)
    return name


def by_letters(data: bytes, sample: bytes, whole: bool) -> str | None:
    """Return the encoding of a text in neither Unicode nor ASCII by the letters in a sample of it."""
    guess = ask_detector(sample) or "ascii"
    guess = SUPERSETS.get(guess, guess)
    if guess == "koi8-r" and UKRAINIAN.search(sample):
        guess = "koi8-u"
    candidates = [guess, *east_asian(sample)]
    if guess in WESTERN or sample.decode(guess, "replace") == sample.decode("cp1252", "replace"):
        candidates.insert(0, "cp1252")
    if guess == "iso8859-2":
        candidates.append("cp1250")
    for name in candidates:
        if name == UTF8 or not is_valid(data, name, whole):
            continue
        decoded = sample.decode(name, "ignore")
        if is_plausible(decoded) and (name != "cp1252" or is_western(decoded)):
            return name
    return None


def east_asian(sample: bytes) -> Iterator[str]:
    """Yield the encodings of East Asia in which all bytes outside ASCII are in pairs of frequent characters."""
    for name, pair in EAST_ASIAN.items():
        seconds = [found[1] for found in pair.findall(sample)]
        are_high = sum(second > 0x7F for second in seconds)
        if 5 * are_high < 2 * len(seconds) or HIGH.search(pair.sub(b"", sample)):
            continue  # in Western Europe, an accented letter and the ASCII letter behind it look like a pair
        if name != "euc_jp" or EUC_KANA.search(sample):
            yield name


def is_plausible(text: str) -> bool:
    """Return whether a text has only characters that texts have: none that are unassigned, private or controls."""
    return not any(unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in "\t\n\v\f\r\x1a\x1b" for c in set(text))


def is_western(text: str) -> bool:
    """Return whether the characters outside ASCII are those of Western Europe, and few of them stand in a row."""
    rows = NOT_ASCII.findall(text)
    outside = "".join(rows)
    return 2 * len(outside) < 5 * len(rows) and sum(c in WESTERN_CHARACTERS for c in outside) >= 0.9 * len(outside)


class Utf8Reader:
    """Reads a stream as UTF-8, whatever its encoding, in bounded memory.

    The encoding is detected in the first block that is not ASCII. A later byte that does not fit it becomes `INVALID`,
    which is no UTF-8, so that the reader finds the record that it is in. Invalid bytes of UTF-8 stay as they are.
    """

    INVALID = "\udcff"

    def __init__(self, source: Readable, encoding: str = AUTO) -> None:
        """Read from `source`. `encoding` is that of a text which is not UTF-8; "auto" detects it."""
        self.source = source
        self.chosen = encoding
        self.encoding = UTF8
        self.at_end = False
        self._started = self._decided = False
        self._decoder: codecs.IncrementalDecoder | None = None

    def read(self, size: int, /) -> bytes:
        """Return the text of the next `size` bytes. Raises NotTextError for binary data."""
        data = self.source.read(size)
        self.at_end = len(data) < size
        if not self._decided and (
            not data.isascii() or b"\0" in data or b"\x1b$" in data or is_seven_bit(self.chosen) or hz(data)
        ):
            self._decide(data)
        if self._decoder is not None:
            data = self._decoder.decode(data, self.at_end).encode("utf-8", "surrogatepass")
        if not self._started:
            data = data.removeprefix(codecs.BOM_UTF8)
        self._started = True
        return data

    def lines(self) -> Iterator[bytes]:
        """Yield the lines with their line ends. Raises NotTextError for binary data."""
        rest = b""
        while not self.at_end:
            *lines, rest = (rest + self.read(BLOCK_BYTES)).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def _decide(self, data: bytes) -> None:
        """Set the encoding."""
        if self.chosen == AUTO:
            name = detect(data, whole=self.at_end)
        else:
            name = marked(data) or chosen(data, self.chosen, whole=self.at_end)
        if name is None:
            raise NotTextError("binary, or in an unknown encoding", "file")
        self._decided, self.encoding = True, name
        if name != UTF8:
            self._decoder = codecs.getincrementaldecoder(name)(REPLACE)


codecs.register_error(REPLACE, lambda error: (Utf8Reader.INVALID, getattr(error, "end", 0)))
