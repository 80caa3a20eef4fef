"""Text from data as people may see it, in terminals, tables, Markdown, SVG, HTML and XML: it can only be read.

Control characters act on terminals, marks of writing direction reorder what is around them, line ends break tables and
lists, and XML has no place for some characters. They become escape codes, such as \\x1b. Letters of all scripts and
emoji stay as they are.
"""

from __future__ import annotations

import html
import re

# C0 and C1 controls, the marks and embeddings of writing direction (Unicode Standard Annex 9), line and paragraph
# separators, halves of surrogate pairs, and the two code points that XML 1.0 forbids (production 2).
ACTING = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
ANY = re.compile(f"[{ACTING}]")
BUT_LINES = re.compile(f"(?![\t\n])[{ACTING}]")
NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str, *, lines: bool = False) -> str:
    """Return a text in which characters that act, instead of being seen, are written as escape codes.

    With `lines`, line feeds and tabs stay.
    """
    return (BUT_LINES if lines else ANY).sub(escape_code, text)


def escape_code(found: re.Match[str]) -> str:
    """Return the escape code of a character: \\t, \\x1b or \\u202e."""
    number = ord(found[0])
    return NAMED.get(found[0]) or (f"\\x{number:02x}" if number < 0x7F else f"\\u{number:04x}")


def escape_html(text: object) -> str:
    """Return a text for HTML or XML: visible, and without markup."""
    return html.escape(visible(str(text), lines=True))


def one_line(text: str) -> str:
    """Return a text as one line: visible, with one space for each run of white space."""
    return visible(" ".join(text.split()))
