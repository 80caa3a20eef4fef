"""Decode web pages: a byte order mark, valid UTF-8, then the encodings that HTTP and the page declare."""

from __future__ import annotations

import codecs
import re

from gptctl.io.input.encoding import SUPERSETS, UTF8, detect, is_damaged_utf8, is_western, iso_2022, marked, sample_of

# Where the HTML standard looks for the declaration (13.2.3.2, prescan), and where browsers find it in practice.
PRESCAN_BYTES = 4096
COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
DECLARED = (
    re.compile(rb"""<meta\b[^>]*?\bcharset\s*=\s*["']?\s*([\w.:+-]+)""", re.IGNORECASE),
    re.compile(rb"""\A\s*<\?xml\b[^>]*?\bencoding\s*=\s*["']([\w.:+-]+)""", re.IGNORECASE),
)
# Labels of the encoding standard of WHATWG that Python has no name for.
LABELS = {
    "x-sjis": "cp932", "windows-31j": "cp932", "ms_kanji": "cp932", "x-euc-jp": "euc_jp", "x-gbk": "gb18030",
    "x-x-big5": "cp950", "x-mac-cyrillic": "mac_cyrillic", "x-mac-ukrainian": "mac_cyrillic",
    "x-mac-roman": "mac_roman", "windows-949": "cp949", "windows-874": "cp874", "dos-874": "cp874",
    "iso-8859-8-i": "iso8859_8", "logical": "iso8859_8",
    "x-cp1250": "cp1250", "x-cp1251": "cp1251", "x-cp1252": "cp1252", "x-cp1253": "cp1253", "x-cp1254": "cp1254",
    "x-cp1255": "cp1255", "x-cp1256": "cp1256", "x-cp1257": "cp1257", "x-cp1258": "cp1258", "unicode-1-1-utf-8": UTF8,
    "hz-gb-2312": "hz", "koi": "koi8-r", "koi8": "koi8-r", "csmacintosh": "mac_roman",
}  # fmt: skip
SEVEN_BITS = ("hz", "iso2022_jp", "iso2022_jp_2", "iso2022_kr")
# Codecs of Python that are no encodings of pages. Those from bytes to bytes, such as base64, raise LookupError.
NOT_CHARSETS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "unicode_escape", "utf-7", "undefined")


def decode_page(data: bytes, http_charset: str = "") -> str:
    """Return the text of a page. `http_charset` is the encoding that the HTTP header names, or "".

    Valid UTF-8 is UTF-8, whatever is declared, since text in another encoding hardly ever is. The next to decide are
    the HTTP header and the page, as in the HTML standard, but a declaration only counts if all bytes fit it. If none
    does, the encoding is detected. Bytes that do not fit become U+FFFD.
    """
    if mark := marked(data):
        return data.decode(mark, "replace").removeprefix("\ufeff")
    declared = [name for label in (http_charset, *labels_in(data)) if (name := codec_name(label))]
    if data.isascii():
        candidates = [name for name in declared if name in SEVEN_BITS] + [name for name in [iso_2022(data)] if name]
    else:
        candidates = []
    if b"\0" not in data:  # UTF-16 that has no mark may be valid UTF-8
        candidates.append(UTF8)
    for name in candidates:
        if (text := strict(data, name)) is not None:
            return text
    sample = sample_of(data)
    if is_damaged_utf8(sample) and (UTF8 in declared or not declared):
        return data.decode(UTF8, "replace")
    for name in declared:
        if (text := strict(data, name)) is not None and (name != "cp1252" or is_western(sample.decode(name))):
            return text
    return data.decode(detect(data) or (declared or ["cp1252"])[0], "replace")


def strict(data: bytes, name: str) -> str | None:
    """Return data decoded, or None if a byte does not fit the encoding."""
    try:
        return data.decode(name)
    except (UnicodeError, LookupError):
        return None


def labels_in(data: bytes) -> list[str]:
    """Return the encodings that a page declares in a meta tag or an XML declaration."""
    head = COMMENT.sub(b"", data[:PRESCAN_BYTES])
    return [found[1].decode() for pattern in DECLARED if (found := pattern.search(head))]


def codec_name(label: str) -> str:
    """Return Python's name of the encoding that a label names, or "" if it names none.

    Of an encoding that has a superset, the superset is meant, as in the encoding standard of WHATWG. UTF-16 in the page
    itself means UTF-8, since the declaration could not have been read otherwise.
    """
    label = label.strip("\"' \t\r\n;").lower()
    try:
        name = codecs.lookup(LABELS.get(label, label)).name
    except (LookupError, ValueError):
        return ""
    if name in NOT_CHARSETS:
        return ""
    return UTF8 if name.startswith(("utf-16", "utf-32")) else SUPERSETS.get(name, name)
