"""Text from data in Markdown stays text."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from gptctl.core.markdown import code, code_block, escape, table

HOSTILE = [
    "a|b", "`x`", "``", "<b>x</b>", "&lt;", "[x](http://e.example)", "![x](y)", "http://e.example/?a=1", "*a* _b_ __c__",
    "~~x~~", "# x", "- x", "1. x", "> x", "---", "===", "a\nb", "\\", "\\|", "a_b", "$x$", "\x1b[31m", "", "x ",
]  # fmt: skip


def words(markdown: str) -> list[str]:
    """Return the texts of rendered Markdown. Nothing but text, code and tables may be in it."""
    found = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    inline = [token for block in found for token in block.children or []]
    assert {token.type for token in inline} <= {"text", "code_inline", "text_special"}, markdown
    kinds = {token.type.rpartition("_")[0] for token in found if token.type not in ("inline", "fence")}
    assert kinds <= {"paragraph", "table", "thead", "tbody", "tr", "td", "th"}, markdown
    return ["".join(token.content for token in block.children or []) for block in found if block.type == "inline"]


@pytest.mark.parametrize("text", [one for one in HOSTILE if one.strip()])
def test_a_text_is_shown_as_it_is(text: str) -> None:
    shown = " ".join(text.replace("\x1b", "\\x1b").split())
    assert words(escape(text)) == [shown]
    if "|" not in text:  # a backslash before it belongs to the table around
        assert words(code(text)) == [shown]


def test_a_table_keeps_its_cells() -> None:
    shown = words(table(["name", "n"], [(text, "1") for text in HOSTILE]))
    assert len(shown) == 2 * (len(HOSTILE) + 1)
    assert shown[2] == "a|b" and shown[1::2] == ["n", *"1" * len(HOSTILE)]


def test_a_code_block_ends_where_its_text_ends() -> None:
    [fence] = MarkdownIt("commonmark").parse(code_block("a\n```\n````\n<b>", "sh"))
    assert (fence.content, fence.info) == ("a\n```\n````\n<b>\n", "sh")
