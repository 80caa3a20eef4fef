"""Web pages: telling them from other text by their first characters, and taking their main text out."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.errors import MachineError
from gptctl.text.cleaning.bounded_call import BoundedCall, Failure

Extractor = Literal["resiliparse", "trafilatura"]

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
    """Return the main text of a page: paragraphs, lists, tables and code stay, navigation and scripts go.

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


def to_text_trafilatura(html: str) -> str:
    """Return the main text of a page by trafilatura's rules, without comments; "" where it finds none.

    Its own deduplication stays off: it would make a page's text depend on the pages before it.
    """
    from trafilatura import extract

    return extract(html, favor_precision=True, include_comments=False, deduplicate=False) or ""


def extract(
    text: pa.LargeStringArray, extractor: Extractor, seconds: float
) -> tuple[pa.LargeStringArray, pa.StringArray]:
    """Give each page's main text, and null, or why there is none: "html_timeout" or "html_crash".

    A page that failed keeps its markup, so that it can be looked at. `seconds` of wall-clock time bound each page.
    Nulls stay null. Raises MachineError (4) where trafilatura is wanted and not installed.
    """
    function = _function(extractor)
    texts: list[str | None] = []
    reasons: list[str | None] = []
    with BoundedCall(function, seconds) as bounded:
        for page in text.to_pylist():
            answer = None if page is None else bounded(page)
            texts.append(page if isinstance(answer, Failure) else answer)
            reasons.append(f"html_{answer.kind}" if isinstance(answer, Failure) else None)
    return pa.array(texts, pa.large_string()), pa.array(reasons, pa.string())


def _function(extractor: Extractor) -> Callable[[str], str]:
    """Return an extractor's function with all that it imports imported, so that a new child need not do it again."""
    if extractor == "resiliparse":
        import_module("resiliparse.extract.html2text")
        import_module("resiliparse.parse.html")
        return to_text
    try:
        import_module("trafilatura")
    except ImportError as error:
        raise MachineError(f"trafilatura cannot be used: {error}", "pip install 'gptctl[trafilatura]'") from error
    return to_text_trafilatura
