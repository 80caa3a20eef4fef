"""Find e-mail addresses: lengths of RFC 5321, no quoted local parts, no address literals.

Letters with accents, Greek and Cyrillic letters are letters (RFC 6531). Other scripts are not: in scripts without
spaces, the sentence would become part of the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gptctl.text.pii.pii_kind import Match

PREFILTER = "@"
LOCAL_CHARACTERS = 64
LETTER = r"A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f"
# The quantifiers are possessive, so that an incomplete address takes linear time.
DOMAIN = re.compile(
    rf"@((?:[{LETTER}0-9]++(?:-++[{LETTER}0-9]++)*+\.)+(xn--[A-Za-z0-9-]{{2,59}}|[{LETTER}]{{2,24}}))"
    rf"(?![{LETTER}0-9_(]|-[{LETTER}0-9])"
)
LOCAL = re.compile(rf"[{LETTER}0-9_](?:[{LETTER}0-9_%+'-]|\.(?!\.|\Z))*\Z")
LOCAL_BEFORE = re.compile(rf"[{LETTER}0-9_%+'.-]")
# Suffixes of file names, not top-level domains: logo@2x.png, jquery@3.min.js.
FILE_SUFFIXES = {
    "bmp", "css", "csv", "gif", "gz", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "jsx", "mjs", "pdf", "png",
    "scss", "svg", "tgz", "tif", "tiff", "toml", "tsx", "txt", "webp", "xml", "yaml", "yml",
}  # fmt: skip


def find(text: str) -> Iterator[Match]:
    """Find e-mail addresses, except git@host, the user of every git server, and code such as x@y.T(...)."""
    for match in DOMAIN.finditer(text):
        at = match.start()
        local = LOCAL.search(text, max(0, at - LOCAL_CHARACTERS), at)
        if local is None or match[2].lower() in FILE_SUFFIXES or len(match[1]) > 253 or local[0] == "git":
            continue
        start = local.start()
        if at - start == LOCAL_CHARACTERS and start and LOCAL_BEFORE.match(text, start - 1):
            continue  # longer than any local part, so it is encoded data
        yield Match(start, match.end(), "email")
