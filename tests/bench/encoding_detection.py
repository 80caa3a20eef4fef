"""How often the encoding of a text is found, by gptctl and by uchardet alone (resiliparse's detector).

    python tests/bench/encoding_detection.py [--manuals /usr/share/man] [--pages 60]

Debian's manual pages in 22 languages, which are UTF-8, are written in the encodings of each language, whole and cut to
a number of characters around the first one that is not ASCII. An answer is right if it decodes to the same text. Ends
with a JSON line: by length, the texts, and how many gptctl and uchardet read right.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

from resiliparse.parse.encoding import detect_encoding

from gptctl.io.input.encoding import detect

WESTERN, CENTRAL = ("cp1252",), ("cp1250", "iso8859-2")
ENCODINGS = {
    **dict.fromkeys(("de", "es", "it", "da", "sv", "nl", "pt_BR", "fi"), WESTERN),
    **dict.fromkeys(("pl", "cs", "hu", "ro"), CENTRAL),
    "fr": ("cp1252", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le", "utf-8"),
    "hr": ("cp1250",), "sr": ("cp1251",), "tr": ("cp1254",), "uk": ("cp1251", "koi8-u"),
    "ru": ("cp1251", "koi8-r", "iso8859-5", "cp866", "utf-16-be", "utf-8"),
    "ja": ("euc_jp", "cp932", "iso2022_jp", "utf-16-le", "utf-16-be"),
    "ko": ("cp949",), "zh_CN": ("gb18030", "utf-16-le"), "zh_TW": ("cp950",),
}  # fmt: skip
LENGTHS = (80, 600, 10**7)


def texts(manuals: Path, language: str, pages: int) -> list[str]:
    """Return the manual pages of a language that are not ASCII."""
    found = (gzip.decompress(path.read_bytes()) for path in sorted((manuals / language).glob("man*/*.gz"))[:pages])
    decoded = (data.decode("utf-8", "replace") for data in found)
    return [text for text in decoded if not text.isascii() and "\ufffd" not in text]


def is_right(data: bytes, encoding: str, find: Callable[[bytes], str | None]) -> bool:
    """Return whether the answer of a detector decodes data as its encoding does."""
    try:
        return data.decode(find(data) or "cp1252") == data.decode(encoding)
    except UnicodeDecodeError:
        return False


def uchardet(data: bytes) -> str | None:
    """Return what uchardet finds."""
    found: str | None = detect_encoding(data, max_len=0, html5_compatible=False)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manuals", type=Path, default=Path("/usr/share/man"))
    parser.add_argument("--pages", type=int, default=60)
    arguments = parser.parse_args()
    pages = {language: texts(arguments.manuals, language, arguments.pages) for language in ENCODINGS}
    result = {}
    for length in LENGTHS:
        data: list[tuple[bytes, str]] = []
        for language, encodings in ENCODINGS.items():
            for text in pages[language]:
                start = max(0, re.search(r"[^\x00-\x7f]", text).start() - 20)  # type: ignore[union-attr]
                part = text[start : start + length]
                data += [(part.encode(encoding, "ignore"), encoding) for encoding in encodings]
        right = {f.__name__: sum(is_right(one, encoding, f) for one, encoding in data) for f in (detect, uchardet)}
        result[length] = {"texts": len(data), "gptctl": right["detect"], "uchardet": right["uchardet"]}
        print(length, result[length], flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
