"""Web pages are told from other text, and their main text is taken out."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from gptctl.core.errors import MachineError
from gptctl.text.cleaning.html import extract, looks_like_html, to_text

PAGE = """<!DOCTYPE html>
<html><head><title>Tea</title><script>var tracking = 1;</script></head>
<body><nav><ul><li><a href="/">Home</a></li><li><a href="/shop">Shop now</a></li></ul></nav>
<main><article><h1>Tea</h1>
<p>Green tea is made from leaves that have not been oxidised. It comes from China and is drunk in many countries.</p>
<ul><li>sencha</li><li>matcha</li></ul>
<table><tr><th>kind</th><th>degrees</th></tr><tr><td>sencha</td><td>70</td></tr></table>
<pre><code>def brew():
    return "tea"
</code></pre></article></main>
<footer>Copyright notice</footer></body></html>"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PAGE, True),
        ("\ufeff\n <HTML lang=en>", True),
        ('<?xml version="1.0"?>\n<!-- saved -->\n<!doctype HTML>', True),
        ("<body>\n<p>x</p>", True),
        ("The <html> tag starts a page: <!DOCTYPE html> comes first.", False),
        ('<p align="center">a README</p>', False),
        ("<note><to>xml</to></note>", False),
        ('page = "<html><body></body></html>"', False),
        ("<headline>", False),
        ("a < b and b > c", False),
        ("", False),
        (None, False),
    ],
)
def test_sniffing(text: str | None, expected: bool) -> None:
    """Only whole pages count; prose, code, XML and Markdown that mention tags do not."""
    assert looks_like_html(pa.array([text], pa.large_string())).to_pylist() == [expected]


def test_main_text() -> None:
    """Paragraphs, lists, tables and code stay; navigation, scripts and footers go."""
    text = to_text(PAGE)
    for part in ("Green tea is made", "sencha", "matcha", "degrees", "70", 'def brew():\n    return "tea"'):
        assert part in text
    for part in ("tracking", "Shop now", "Copyright notice"):
        assert part not in text


def test_page_without_main_text() -> None:
    """What has only links gives its links' text rather than nothing, and broken markup is no error."""
    assert "Only link" in to_text("<html><body><nav><a href=x>Only link</a></nav></body></html>")
    assert to_text("<html><body><p>open <b>and never closed").strip() == "open and never closed"
    assert to_text("") == ""


def test_page_that_does_not_name_its_main_part() -> None:
    """Without a main element, resiliparse's rules find it."""
    paragraph = "<p>Green tea is made from leaves that have not been oxidised. It comes from China.</p>"
    page = (
        f"<html><body><ul class=nav><li><a href=/>Home</a></ul><div class=content>{paragraph * 3}</div></body></html>"
    )
    text = to_text(page)
    assert "Green tea" in text and "Home" not in text


def pages(*texts: str | None) -> pa.LargeStringArray:
    """Make a column."""
    return pa.array(texts, pa.large_string())


def test_extract() -> None:
    """A column's pages give what to_text gives each; nulls stay null; there may be no page at all."""
    text, reasons = extract(pages(PAGE, None, "", "<p>caf\u00e9"), "resiliparse", 30)
    assert text.to_pylist() == [to_text(PAGE), None, "", "caf\u00e9"]
    assert reasons.to_pylist() == [None] * 4
    assert (text.type, reasons.type) == (pa.large_string(), pa.string())
    assert [len(column) for column in extract(pages(), "resiliparse", 30)] == [0, 0]


def test_hostile_pages() -> None:
    """10,000 nested elements are parsed; a page that takes too long is given up, with its markup, and the next is not."""
    deep = "<html><body>" + "<div>" * 10_000 + "in the deep" + "</div>" * 10_000
    text, reasons = extract(pages(deep, "<p>after"), "resiliparse", 60)
    assert text.to_pylist() == ["in the deep", "after"] and reasons.null_count == 2
    deeper = "<html><body>" + "<div>" * 100_000  # 100 times as long as 10,000
    text, reasons = extract(pages("<p>before", deeper, "<p>after"), "resiliparse", 1.5)
    assert text.to_pylist() == ["before", deeper, "after"]
    assert reasons.to_pylist() == [None, "html_seconds", None]


def crash(html: str) -> str:
    """Be a parser that some pages crash."""
    if "crash" in html:
        raise RecursionError
    return html.upper()


def test_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that crashes the parser has its own reason."""
    monkeypatch.setattr("gptctl.text.cleaning.html.to_text", crash)
    text, reasons = extract(pages("a", "crash", "b"), "resiliparse", 30)
    assert text.to_pylist() == ["A", "crash", "B"]
    assert reasons.to_pylist() == [None, "html_crash", None]


def test_trafilatura() -> None:
    """The other extractor finds the main text too; what has none gives an empty text, not a reason."""
    try:
        import trafilatura  # noqa: F401
    except ImportError as error:
        pytest.skip(f"trafilatura cannot be imported: {error}")
    text, reasons = extract(pages(PAGE, PAGE, None, "<html></html>"), "trafilatura", 30)
    first, second, *rest = text.to_pylist()
    assert "Green tea is made" in first and "Shop now" not in first
    assert second == first
    assert rest == [None, ""]
    assert reasons.null_count == 4


def test_trafilatura_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint says what to install."""
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(MachineError) as caught:
        extract(pages(PAGE), "trafilatura", 30)
    assert caught.value.hint == "pip install 'lxml-html-clean>=0.4' 'trafilatura>=2.0'"


def test_real_pages() -> None:
    """Pages from whatever documentation is installed come through whole processes and pipes unchanged."""
    found = sorted(path for path in Path("/usr/share/doc").rglob("*.html") if path.is_file())[:20]
    if not found:
        pytest.skip("no HTML under /usr/share/doc")
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in found]
    text, reasons = extract(pages(*texts), "resiliparse", 60)
    assert reasons.null_count == len(found)
    assert text.to_pylist() == [to_text(page) for page in texts]
