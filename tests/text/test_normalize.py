"""Normalisation: what it repairs, what it leaves alone, and that doing it twice is doing it once."""

from __future__ import annotations

import inspect
import textwrap

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptctl.text.normalize import normalize

# What the rules are about, so that random text hits them.
PIECES = st.sampled_from(
    ["\r\n", "\r", "\n", "\x0b", "\x0c", "\x85", "\u2028", " ", "\t", "\xa0", "\x00", "\x1b[31m", "&amp;", "&", "amp;",
     "lt;", "#13;", "Ã¶", "Ã", "Â ", "â€™", "\ufeff", "\x9d", "<", "a", "ö", "日本"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)


def once(text: str) -> str:
    """Normalise one text."""
    (result,) = normalize(pa.array([text], pa.large_string())).to_pylist()
    return str(result)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\r\ntwo\rthree\x0cfour", "one\ntwo\nthree\nfour"),
        ("schÃ¶n", "schön"),
        ("first\nÂ good", "first\n\xa0good"),
        ("tea &amp; cake", "tea & cake"),
        ("&am\x00p;lt;", "<"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("nul\x00 bell\x07 tab\tend", "nul bell tab\tend"),
        ("end  \t\nof line\u3000", "end\nof line"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("\n \n    indented = True\n\n", "    indented = True"),
        (" \n\t\n", ""),
        ("", ""),
        ("“curly” ﬁne Ｗｉｄｅ …", "“curly” ﬁne Ｗｉｄｅ …"),
    ],
)
def test_rules(text: str, expected: str) -> None:
    """Each rule by an example."""
    assert once(text) == expected


def test_source_code_keeps_its_lines() -> None:
    """Indentation and single blank lines are part of a program."""
    source = inspect.getsource(textwrap)
    assert once(source) == source.strip("\n")


def test_nulls_and_slices() -> None:
    """A null stays one, and a slice is not the whole array."""
    texts = pa.array(["x\r\ny", "Ã¶", None, "z "], pa.large_string())
    assert normalize(texts).to_pylist() == ["x\ny", "ö", None, "z"]
    assert normalize(texts.slice(1, 2)).to_pylist() == ["ö", None]
    assert normalize(texts.slice(0, 0)).to_pylist() == []


@given(st.lists(TEXTS | st.text(max_size=30), max_size=4))
@example(["&am\x00p;", "&#13;", "Â \n"])
@settings(max_examples=300, deadline=None)
def test_idempotent(texts: list[str]) -> None:
    """A second time changes nothing."""
    first = normalize(pa.array(texts, pa.large_string()))
    assert normalize(first).to_pylist() == first.to_pylist()


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_guards_do_not_hide_repairs(text: str) -> None:
    """Only documents that ftfy would leave alone are kept from it: the result is stable under ftfy."""
    import ftfy

    config = ftfy.TextFixerConfig(
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
    )
    result = once(text)
    assert once(ftfy.fix_text(result, config)) == result


def test_text_that_was_escaped_many_times_takes_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All levels are undone in a number of passes that does not depend on how many there are."""
    import ftfy.fixes

    passes: list[int] = []
    original = ftfy.fixes.unescape_html
    monkeypatch.setattr(ftfy.fixes, "unescape_html", lambda text: passes.append(len(text)) or original(text))
    for chain in ("amp;", "#38;", "#x26;", "AMP;#038;", "\0amp;"):
        work = {}
        for n in (50, 200):
            passes.clear()
            assert once(f"&{chain * n}lt; a & b") == "< a & b"
            work[n] = len(passes)
        assert work[200] <= work[50], chain
