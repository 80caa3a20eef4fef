"""E-mail addresses, as people write them: RFC 5321's lengths, no quoted local parts, no address literals.

Letters with accents, Greek and Cyrillic ones count as letters (RFC 6531). Others do not, as in scripts without spaces
the sentence would become part of the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gptctl.text.pii.rule import Found

GUARD = "@"
LOCAL_CHARACTERS = 64
LETTER = r"A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f"
# The quantifiers are possessive: an unfinished address costs one pass over its characters.
DOMAIN = re.compile(
    rf"@((?:[{LETTER}0-9]++(?:-++[{LETTER}0-9]++)*+\.)+(xn--[A-Za-z0-9-]{{2,59}}|[{LETTER}]{{2,24}}))"
    rf"(?![{LETTER}0-9_(]|-[{LETTER}0-9])"
)
LOCAL = re.compile(rf"[{LETTER}0-9_](?:[{LETTER}0-9_%+'-]|\.(?!\.|\Z))*\Z")
LOCAL_BEFORE = re.compile(rf"[{LETTER}0-9_%+'.-]")
# No top-level domains, but what follows the last dot of a file name: logo@2x.png, jquery@3.min.js.
FILE_SUFFIXES = {
    "bmp", "css", "csv", "gif", "gz", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "jsx", "mjs", "pdf", "png",
    "scss", "svg", "tgz", "tif", "tiff", "toml", "tsx", "txt", "webp", "xml", "yaml", "yml",
}  # fmt: skip


def find(text: str) -> Iterator[Found]:
    """Find e-mail addresses. git@host, the user name of every git server, is none; x@y.T(...) is code."""
    for match in DOMAIN.finditer(text):
        at = match.start()
        local = LOCAL.search(text, max(0, at - LOCAL_CHARACTERS), at)
        if local is None or match[2].lower() in FILE_SUFFIXES or len(match[1]) > 253 or local[0] == "git":
            continue
        start = local.start()
        if at - start == LOCAL_CHARACTERS and start and LOCAL_BEFORE.match(text, start - 1):
            continue  # longer than any local part: a stretch of encoded data
        yield Found(start, match.end(), "email")
