"""Web pages are told from other text, and their main text is taken out."""

from __future__ import annotations

import pyarrow as pa
import pytest

from gptctl.text.html import looks_like_html, to_text

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
