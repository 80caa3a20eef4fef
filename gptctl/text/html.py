"""Web pages: telling them from other text by their first bytes, and taking their main text out."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

SNIFFED_CHARACTERS = 1024
# The tags that start a whole document in the table of WHATWG MIME Sniffing, section 7.1, after an XML declaration and comments.
# Its other tags (p, div, h1, a, ...) are left out: many Markdown files begin with <p align="center">, and prose with <b>.
DOCUMENT_START = (
    r"(?is)\A[\s\x{feff}]*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*"
    r"(?:<!doctype\s+html[\s>]|<html[\s>]|<head[\s>]|<body[\s>])"
)


def looks_like_html(text: pa.LargeStringArray) -> pa.BooleanArray:
    """Tell which documents are whole web pages, by their first 1,024 characters. Nulls are not."""
    start = pc.utf8_slice_codeunits(text, 0, SNIFFED_CHARACTERS)
    return pc.fill_null(pc.match_substring_regex(start, DOCUMENT_START), False)


def to_text(html: str) -> str:
    """Give the main text of a page: paragraphs, lists, tables and code stay, navigation and scripts go.

    A page in which no main content is found (an index of links, a page of tables only) gives all its visible text.
    """
    from resiliparse.extract.html2text import extract_plain_text

    main: str = extract_plain_text(html, preserve_formatting=True, main_content=True, alt_texts=False)
    if main.strip():
        return main
    everything: str = extract_plain_text(html, preserve_formatting=True, main_content=False, alt_texts=False)
    return everything
