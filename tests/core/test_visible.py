"""Whatever stands in data, what is shown of it can only be read: terminals, tables, Markdown, HTML, SVG and XML."""

from __future__ import annotations

import io
import json
import unicodedata
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.cli.console import Console, print_json
from gptctl.core.errors import DataError
from gptctl.core.markdown import code, code_block, table
from gptctl.core.summary import Summary, Table
from gptctl.core.visible import escape_html, one_line, visible
from gptctl.evals.comparison.gates import GateResult
from gptctl.evals.output import junit, markdown, tables
from gptctl.evals.scoring import scorer
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.reporting import svg_charts
from gptctl.reporting.matplotlib_plots import confusion_matrix
from gptctl.reporting.matrix import Matrix
from tests.evals.command import pairs

ACTING = "\x00\x07\t\n\r\x1b\x7f\x85\x9b\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ud800\udfff\ufffe\uffff"
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from(ACTING + "<>&\"'|`*[]()#=-+@")), max_size=12)


def assert_harmless(text: str, allowed: str = "\n") -> None:
    """Fail if a text has a character that acts on a terminal, or reorders text."""
    for one in text:
        acts = unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp")
        acts |= unicodedata.bidirectional(one) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        assert one in allowed or not (acts or one in ACTING), f"U+{ord(one):04X}"


@given(TEXTS)
def test_only_what_acts_changes(text: str) -> None:
    shown = visible(text)
    assert_harmless(shown, "")
    assert_harmless(visible(text, lines=True), "\t\n")
    assert_harmless(one_line(text), "")
    assert visible(shown) == shown
    assert [one for one in text if one not in shown] == [
        one for one in text if visible(one) != one and one not in shown
    ]


@pytest.mark.parametrize("text", ["naïve 北京", "שלום", "مرحبا", "👩‍👩‍👧 🇩🇪", "e\u0301", "می‌خواهم", "a b"])
def test_scripts_and_emoji_stay(text: str) -> None:
    assert visible(text) == text == visible(text, lines=True)


def test_escape_codes() -> None:
    assert visible("\x1b[31m\u009b\u202e\n\t\r\x7f") == r"\x1b[31m\u009b\u202e\n\t\r\u007f"
    assert visible("a\n\tb\r", lines=True) == "a\n\tb\\r"


class Pipe(io.StringIO):
    """Standard output that is no terminal."""


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_the_terminal(text: str, other: str) -> None:
    """Messages, errors, tables, model text and JSON. A line end in a cell begins no new row."""
    seen, told, piped = io.StringIO(), Terminal(), Pipe()
    console = Console()
    with redirect_stderr(seen):
        console.info(console.text_of(Table(text, (text, other), ((other, text), (text, other)))))
        assert seen.getvalue().count("\n") == 4
        console.info(text)
        console.warn(text)
        console.error(DataError(text, other))
        console.show(Summary("clean", "done", (text,), warnings=(other,), next=text))
    with redirect_stdout(told):
        console.write(text)
        print_json({text: other})
    assert_harmless(seen.getvalue(), "\n\t")
    assert_harmless(told.getvalue(), "\n\t")
    with redirect_stdout(piped):
        console.write(text)
    assert piped.getvalue() == text
    found = io.StringIO()
    with redirect_stdout(found):
        print_json({"a": text})
    assert json.loads(found.getvalue()) == {"a": text} or ":/" in text  # a password is hidden


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_markdown_and_html(text: str, other: str) -> None:
    assert_harmless(table([text, "n"], [(other, text)]))
    assert table([text, "n"], [(other, text)]).count("\n") == 2
    assert_harmless(code(text), "")
    assert_harmless(code_block(text), "\n\t")
    page = Table(text, (text,), ((other,),)).to_html() + escape_html(text)
    assert_harmless(page, "\n\t")
    parser = HTMLParser()
    found: list[str] = []
    parser.handle_starttag = lambda tag, attributes: found.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert found == ["table", "caption", "tr", "th", "tbody", "tr", "td"] or found == [
        "table",
        "caption",
        "tr",
        "th",
        "tr",
        "td",
    ]


@given(TEXTS)
@settings(deadline=None)
def test_charts_are_well_formed(text: str) -> None:
    drawn = str(svg_charts.whiskers(text, [(text, 0.5, 0.4, 0.6), ("b", 0.1, 0.0, 0.2)]))
    assert_harmless(drawn, "\n\t")
    ElementTree.fromstring(drawn)


@given(st.lists(TEXTS.filter(lambda text: text.strip()), min_size=2, max_size=3, unique=True))
@settings(deadline=None, max_examples=30)
def test_an_evaluation_with_any_labels(labels: list[str]) -> None:
    report = scorer.score(pairs(labels * 2, labels[::-1] * 2), "labels", ScoringOptions(ci="none"))
    gates = [GateResult(labels[0], False, labels[1])]
    written = junit.render(report, gates, 1.0)
    ElementTree.fromstring(written.encode())
    assert_harmless(written)
    assert_harmless(markdown.render(report, gates))
    seen = io.StringIO()
    with redirect_stderr(seen):
        for one in tables.report_tables(report):
            console = Console()
            console.info(console.text_of(one))
    assert_harmless(seen.getvalue())


def test_a_picture_with_all_labels_that_act() -> None:
    """The picture is well-formed, and matplotlib warns of nothing."""
    labels = [f"a{ACTING}b", "\x1b", "<b>&amp;]]>-->"]
    report = {"labels": labels, "matrix": [[1] * len(labels)] * len(labels), "invalid": [0] * len(labels)}
    matrix = Matrix.from_report(report)
    picture = confusion_matrix(matrix, labels[0]).decode()
    assert_harmless(picture, "\n\t")
    texts = [found.text for found in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert {r"\x1b", "<b>&amp;]]>-->"} <= {*texts}
