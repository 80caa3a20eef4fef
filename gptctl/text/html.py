"""Web pages: telling them from other text by their first characters, and taking their main text out."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

SNIFFED_CHARACTERS = 1024
# The tags that start a whole document in the table of WHATWG MIME Sniffing, section 7.1, after an XML declaration and
# comments. Its other tags (p, div, h1, a, ...) are left out: many Markdown files begin with <p align="center">.
DOCUMENT_START = (
    r"(?is)\A[\s\x{feff}]*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*"
    r"(?:<!doctype\s+html[\s>]|<html[\s>]|<head[\s>]|<body[\s>])"
)
# Where a page says which part is its content (HTML Living Standard, 4.4.14; WAI-ARIA 1.2, role main), that holds.
MAIN = "main, [role=main]"
AROUND_MAIN = ["nav", "[role=navigation]", "aside", "footer", "[role=contentinfo]", "[role=search]", "button"]


def looks_like_html(text: pa.LargeStringArray) -> pa.BooleanArray:
    """Tell which documents are whole web pages, by their first 1,024 characters. Nulls are not."""
    start = pc.utf8_slice_codeunits(text, 0, SNIFFED_CHARACTERS)
    return pc.fill_null(pc.match_substring_regex(start, DOCUMENT_START), False)


def to_text(html: str) -> str:
    """Give the main text of a page: paragraphs, lists, tables and code stay, navigation and scripts go.

    The main element is taken as it is; a page without one is cut by resiliparse's rules for main content, which also
    drop lists of a word or two per item. Where those find nothing (an index of links), all visible text is given.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    body = tree.body
    main = body.query_selector(MAIN) if body is not None else None
    text = ""
    if main is not None:
        text = extract_plain_text(main.html, alt_texts=False, skip_elements=AROUND_MAIN, preserve_formatting=True)
    if not text.strip():
        text = extract_plain_text(tree, alt_texts=False, main_content=True, preserve_formatting=True)
    if not text.strip():
        text = extract_plain_text(tree, alt_texts=False, preserve_formatting=True)
    return text
