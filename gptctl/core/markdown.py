"""Markdown with text from data: tables, code spans and code blocks in which no character has a meaning of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gptctl.core.visible import one_line, visible

SPECIAL = re.compile(r"([\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_]))")  # an underscore inside a word has no meaning
LEADING = re.compile(r"^([#>+=-]+|\d+[.)])(?=\s|$)|^([=-]{3,})")


def escape(text: str) -> str:
    """Return a text as one line in which nothing becomes markup, a link, HTML or the end of a table's cell."""
    flat = SPECIAL.sub(r"\\\1", one_line(text).replace("&", "&amp;")).replace("<", "&lt;").replace("://", ":&#47;/")
    return LEADING.sub(lambda match: match[0][:-1] + "\\" + match[0][-1], flat)


def code(text: str) -> str:
    """Return a text as a code span of one line, which may also be in a table."""
    flat = one_line(text).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", flat)), default=0) + 1)
    pad = " " if flat.startswith("`") or flat.endswith("`") or not flat else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def code_block(text: str, language: str = "") -> str:
    """Return lines of text as a code block."""
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence}{language}\n{visible(text, lines=True)}\n{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain texts, with the first column aligned left and the others right."""
    return raw_table([escape(name) for name in columns], ([escape(text) for text in row] for row in rows))


def raw_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: bool = False) -> str:
    """Return a table of Markdown, with the first column aligned left and the others right, or all left."""
    lines = [columns, [":--", *[":--" if left else "--:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
