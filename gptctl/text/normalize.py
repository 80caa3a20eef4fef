"""Normalize text: repair its encoding, unify line ends and remove invisible characters.

The rules in order: line ends become "\\n" (also vertical tab, form feed and the two Unicode separators); ftfy repairs
mojibake, HTML entities and terminal escapes; control characters are removed; blanks at line ends are removed; at
most two blank lines in a row are kept; blank lines around the text are removed. Indentation, tabs, quotes, ligatures
and full-width letters are kept: code must still run, and Unicode normalization would be a second, lossy decision.
Normalizing a normalized text changes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

__all__ = ["normalize"]

# C0 except tab and line feed, delete, C1, and what ftfy treats as control characters: deprecated format characters,
# byte order marks, interlinear annotations, object replacement.
CONTROLS = r"[\x00-\x08\x0e-\x1f\x7f-\x{9f}\x{206a}-\x{206f}\x{feff}\x{fff9}-\x{fffc}]"
# The same for re, with surrogates.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u206a-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff]")
LINE_ENDS = r"\r\n|[\r\x0b\x0c\x{2028}\x{2029}]"
# U+0085 is a line end in some encodings, but an ellipsis in mangled Windows-1252, which ftfy repairs. So it is a
# control character here.
ENTITY = r"&#?[0-9A-Za-z]{1,24};"
# An ampersand that was escaped any number of times.
ESCAPED_AMPERSANDS = re.compile(r"&(?:amp;|AMP;|#0{0,20}38;|#[xX]0{0,19}26;)+")
# Each pattern by which ftfy 6.3 detects mojibake has a control character, two adjacent characters outside ASCII, or one
# of these.
SUSPECT = r"[^\x00-\x7f]{2}|[ŒœÃÂ]"

# A text that does not match needs no change: one pass instead of eight.
UNTIDY = rf"{LINE_ENDS}|{CONTROLS}|{ENTITY}|{SUSPECT}|[\t\p{{Zs}}](?:\n|\z)|\n{{4}}|\A\n|\n\z"


def normalize(text: pa.LargeStringArray) -> pa.LargeStringArray:
    """Normalize each document. Nulls stay null.

    The rules are applied to changed documents again, because one repair can enable another: removing a NUL can complete
    an entity. This ends, because each round shortens a document or lowers the number of its control characters and line
    ends.
    """
    result = text
    rows = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(text, UNTIDY), False))
    while len(rows):
        before = pc.take(result, rows)
        after = _one_round(before)
        changed = pc.fill_null(pc.not_equal(before, after), False)
        if pc.any(changed).as_py():
            result = pc.replace_with_mask(result, _mask(len(result), rows, changed), pc.filter(after, changed))
        rows = pc.filter(rows, changed)
    return result


def _mask(length: int, rows: pa.UInt64Array, changed: pa.BooleanArray) -> pa.BooleanArray:
    """Return a mask over all documents, true for those of the `rows` that changed."""
    mask = np.zeros(length, dtype=bool)
    mask[rows.to_numpy()] = changed.to_numpy(zero_copy_only=False)
    return pa.array(mask)


def _one_round(text: pa.LargeStringArray) -> pa.LargeStringArray:
    unified = pc.replace_substring_regex(text, LINE_ENDS, "\n")
    return _tidy(_repair(unified))


def _tidy(text: pa.LargeStringArray) -> pa.LargeStringArray:
    unified = pc.replace_substring_regex(text, LINE_ENDS, "\n")
    printable = pc.replace_substring_regex(unified, CONTROLS, "")
    trimmed = pc.replace_substring_regex(printable, r"(?m)[\t\p{Zs}]+$", "")
    spaced = pc.replace_substring_regex(trimmed, r"\n{4,}", "\n\n\n")
    return pc.replace_substring_regex(spaced, r"\A\n+|\n+\z", "")


def _repair(text: pa.LargeStringArray) -> pa.LargeStringArray:
    """Run ftfy on the documents that it could change: those with an entity, a control character or a SUSPECT match."""
    rows = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(text, f"{ENTITY}|{CONTROLS}|{SUSPECT}"), False))
    if not len(rows):
        return text
    import ftfy

    config = ftfy.TextFixerConfig(
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
        explain=False,
        unescape_html=False,
    )
    after = [repair(doc, config) for doc in pc.take(text, rows).to_pylist()]
    mask = _mask(len(text), rows, pa.array([True] * len(rows)))
    return pc.replace_with_mask(text, mask, pa.array(after, pa.large_string()))


def repair(text: str, config: TextFixerConfig) -> str:
    """Run ftfy on a document until nothing changes.

    ftfy would undo "&amp;amp;amp;", text that was escaped many times, one level at a time, each with a pass over the
    text. Here all levels that follow each other are undone at once. As in ftfy, from the first line with "<" on, the
    text is no escaped HTML.
    """
    from ftfy.fixes import unescape_html

    first = text.find("<")
    escaped_end = text.rfind("\n", 0, first) + 1 if first >= 0 else len(text)
    escaped, rest = text[:escaped_end], text[escaped_end:]
    while "&" in escaped:
        before = escaped
        unescaped = ESCAPED_AMPERSANDS.sub("&", escaped)
        while (again := unescape_html(ESCAPED_AMPERSANDS.sub("&", unescaped))) != unescaped:
            unescaped = again
        escaped = fix_lines(unescaped, config)
        if escaped == before:
            return escaped + fix_lines(rest, config)
    return fix_lines(escaped, config) + fix_lines(rest, config)


def fix_lines(text: str, config: TextFixerConfig) -> str:
    """Return what ftfy.fix_text makes of a text, which processes 2 MB/s, line by line.

    Without entities and normalization, it can change only a line that has a control character or in which its own test
    finds mojibake. Only those are passed to it.
    """
    import ftfy
    from ftfy.badness import is_bad

    has_controls = CONTROL.search(text) is not None
    if text.isascii() and not has_controls:
        return text
    lines = text.split("\n")
    last = len(lines) - 1
    for place, line in enumerate(lines):
        if (has_controls and CONTROL.search(line)) or (not line.isascii() and is_bad(line)):
            fixed = ftfy.fix_text(line if place == last else line + "\n", config)
            lines[place] = fixed if place == last else fixed.removesuffix("\n")
    return "\n".join(lines)
