"""Detect web pages by their first characters, and extract their main text."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.extras import require
from gptctl.text.bounded_call import BoundedCall, Failure

Extractor = Literal["resiliparse", "trafilatura"]

# Why a page is dropped: the config key that bounds the time, or a crash, which no key governs.
REASONS = {"timeout": "html_seconds", "crash": "html_crash"}
SNIFFED_CHARACTERS = 1024
# Those tags of the table in WHATWG MIME Sniffing, section 7.1, that start a whole document, after an XML declaration
# and comments. The table's other tags (p, div, h1, a, ...) are not used: many Markdown files begin with <p
# align="center">.
DOCUMENT_START = (
    r"(?is)\A[\s\x{feff}]*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*"
    r"(?:<!doctype\s+html[\s>]|<html[\s>]|<head[\s>]|<body[\s>])"
)
# How a page marks its main content (HTML Living Standard, 4.4.14; WAI-ARIA 1.2, role main).
MAIN = "main, [role=main]"
NOT_MAIN = ["nav", "[role=navigation]", "aside", "footer", "[role=contentinfo]", "[role=search]", "button"]


def looks_like_html(text: pa.LargeStringArray) -> pa.BooleanArray:
    """Return which documents are whole web pages, by their first 1,024 characters. A null is not."""
    start = pc.utf8_slice_codeunits(text, 0, SNIFFED_CHARACTERS)
    return pc.fill_null(pc.match_substring_regex(start, DOCUMENT_START), False)


def to_text(html: str) -> str:
    """Return the main text of a page: paragraphs, lists, tables and code, but no navigation and scripts.

    All text of the main element is returned. For a page without one, resiliparse's rules find the main content; they
    also drop lists with a word or two per item. If the rules find nothing, as in an index of links, all visible text is
    returned.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    body = tree.body
    main = body.query_selector(MAIN) if body is not None else None
    text = ""
    if main is not None:
        text = extract_plain_text(main.html, alt_texts=False, skip_elements=NOT_MAIN, preserve_formatting=True)
    if not text.strip():
        text = extract_plain_text(tree, alt_texts=False, main_content=True, preserve_formatting=True)
    if not text.strip():
        text = extract_plain_text(tree, alt_texts=False, preserve_formatting=True)
    return text


def to_text_trafilatura(html: str) -> str:
    """Return the main text of a page by trafilatura's rules, without comments; "" if it finds none.

    trafilatura's deduplication is off, because it makes a page's text depend on the pages before it.
    """
    from trafilatura import extract

    return extract(html, favor_precision=True, include_comments=False, deduplicate=False) or ""


def extract(
    text: pa.LargeStringArray, extractor: Extractor, seconds: float
) -> tuple[pa.LargeStringArray, pa.StringArray]:
    """Return the main text of each page, and the reason to drop it or null.

    The reason is "html_seconds" if a page takes longer than `seconds` of wall-clock time, and "html_crash" if the
    extractor fails. Such a page keeps its markup, so that it can be inspected. Nulls stay null. Raises MachineError (4)
    if trafilatura is not installed.
    """
    function = _load_extractor(extractor)
    texts: list[str | None] = []
    reasons: list[str | None] = []
    with BoundedCall(function, seconds) as bounded:
        for page in text.to_pylist():
            answer = None if page is None else bounded(page)
            texts.append(page if isinstance(answer, Failure) else answer)
            reasons.append(REASONS[answer.kind] if isinstance(answer, Failure) else None)
    return pa.array(texts, pa.large_string()), pa.array(reasons, pa.string())


def _load_extractor(extractor: Extractor) -> Callable[[str], str]:
    """Return an extractor's function after importing its modules, so that no child process has to import them."""
    if extractor == "resiliparse":
        import_module("resiliparse.extract.html2text")
        import_module("resiliparse.parse.html")
        return to_text
    require("trafilatura")
    return to_text_trafilatura
