"""Which addresses are blocked, and what lists of domains may look like."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gptctl.core.errors import UsageError
from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch
from gptctl.text.filters.url_blocklist import Config, measure, rules


def verdicts(urls: Sequence[str | None], config: Config, column: str = "url") -> list[str | None]:
    """Say why documents with these addresses are dropped."""
    text = pa.array(["text"] * len(urls), pa.large_string())
    batch = DocumentBatch(text, pa.table({"text": text, column: pa.array(urls, pa.string())}))
    reasons: list[str | None] = drop_reasons("url_blocklist", rules(config), measure(batch, config).figures).to_pylist()
    return reasons


@pytest.mark.parametrize(
    "url",
    [
        "https://bad.example/page",
        "HTTP://WWW.Bad.EXAMPLE:8080/?q=1",
        "http://user:pass@bad.example/",
        "http://user@home@bad.example",
        "bad.example",
        "bad.example/page",
        "a.b.c.bad.example:443/page",
        "//bad.example/page",
        "http://bad.example./",
        "http:/bad.example/",
        "http:\\\\bad.example\\page",
        " http://bad.exam\nple/",
        "https://b%61d.example/",
        "https://bad.example?x=http://good.example/",
        "https://bad.example#good.example",
        "ftp://bad.example/file",
        "https://bad。example/",
    ],
)
def test_blocked_domain(url: str) -> None:
    """However the address is written."""
    assert verdicts([url], Config(domains=("bad.example",))) == ["url_blocklist.domains"]


@pytest.mark.parametrize(
    "url",
    [
        "https://notbad.example/",
        "https://bad.example.org/",
        "https://example/",
        "https://good.example/bad.example",
        "https://good.example/?u=https://bad.example",
        "https://bad.example@good.example/",
        "https://good.example\\@bad.example/",
        "",
        "http://",
        "http://[::1]/",
        "?",
        "mailto:someone@good.example",
        None,
    ],
)
def test_other_domain(url: str | None) -> None:
    """A name must match as a whole, and stand where the host stands."""
    assert verdicts([url], Config(domains=("bad.example",))) == [None]


def test_international_domains() -> None:
    """Unicode and punycode are the same name, in lists and in addresses."""
    urls: list[str | None] = ["https://www.münchen.de/x", "https://XN--MNCHEN-3YA.de", "https://MÜNCHEN.de"]
    for domain in ("münchen.de", "xn--mnchen-3ya.de", "*.München.de", ".münchen.de."):
        assert verdicts(urls, Config(domains=(domain,))) == ["url_blocklist.domains"] * 3
    assert verdicts([f"http://{'ü' * 70}.de/"], Config(domains=("de",))) == ["url_blocklist.domains"]


def test_whole_words() -> None:
    """A word is a run of letters and digits; the figure counts all hits."""
    config = Config(words=("Casino", "xxx"))
    urls: list[str | None] = [
        "https://casino.example/",
        "https://example.org/a/best-CASINO_xxx?casino=1",
        "https://casinos.example/occasino",
        "https://example.org/c%61sino",
        None,
        "",
    ]
    assert verdicts(urls, config) == [
        "url_blocklist.words",
        "url_blocklist.words",
        None,
        "url_blocklist.words",
        None,
        None,
    ]
    text = pa.array([""] * len(urls), pa.large_string())
    figures = measure(DocumentBatch(text, pa.table({"url": urls})), config).figures
    assert figures[:, 1].tolist() == [1, 3, 0, 1, 0, 0]


def test_columns() -> None:
    """Another column can hold the address; without one, everything stays."""
    config = Config(domains=("bad.example",), words=("bad",), column="page")
    assert verdicts(["bad.example"], config, "page") == ["url_blocklist.domains"]
    assert verdicts(["bad.example"], config) == [None]
    assert verdicts(["bad.example"], Config()) == [None]
    text = pa.array(["bad.example"], pa.large_string())
    assert measure(DocumentBatch(text), Config(words=("bad",))).figures.tolist() == [[0, 0]]
    empty = pa.table({"url": pa.array([], pa.large_string())})
    assert measure(DocumentBatch(text.slice(0, 0), empty), Config(words=("bad",), domains=("a.b",))).figures.shape == (
        0,
        2,
    )


def test_files(tmp_path: Path) -> None:
    """One domain a line, comments, hosts files, compressed files."""
    plain, hosts, packed = tmp_path / "plain", tmp_path / "hosts", tmp_path / "list.gz"
    plain.write_text("# adults only\n\nbad.example  # worst\r\n  Münster.example\n*.wild.example\n", encoding="utf-8")
    hosts.write_text(
        "127.0.0.1 localhost\n::1 ip6-localhost\n0.0.0.0 ads.example\n0.0.0.0\ttrack.example other.example\n"
    )
    packed.write_bytes(gzip.compress(b"zipped.example"))
    config = Config(files=(str(plain), str(hosts), str(packed)), domains=("own.example",))
    names = ["bad", "münster", "wild", "ads", "track", "other", "zipped", "own"]
    assert verdicts([f"https://x.{name}.example/" for name in names], config) == ["url_blocklist.domains"] * len(names)
    assert verdicts(["https://127.0.0.1/", "https://0.0.0.0/", "https://adults.example/"], config) == [None] * 3


def test_damaged_files(tmp_path: Path) -> None:
    """The message names the file, and the line that is no domain."""
    with pytest.raises(UsageError, match="no-such-list"):
        verdicts(["a"], Config(files=(str(tmp_path / "no-such-list"),)))
    for name, content in {"urls": b"bad.example/page", "latin": b"m\xfcnchen.de", "adblock": b"||bad.example^"}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UsageError, match=name):
            verdicts(["a"], Config(files=(str(path),)))


@pytest.mark.parametrize("bad", [{"domains": ("https://bad.example",)}, {"domains": ("",)}, {"words": ("two-parts",)}])
def test_bad_settings(bad: dict[str, tuple[str, ...]]) -> None:
    """A path, nothing, or two words are refused at once."""
    with pytest.raises(ValidationError):
        Config.model_validate(bad)


LABELS = st.lists(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True), min_size=1, max_size=5)


@given(LABELS, LABELS)
def test_a_domain_blocks_what_lies_below(below: list[str], domain: list[str]) -> None:
    """Any name below a blocked domain is blocked, and the domain of a sub-domain is not."""
    blocked, url = ".".join(domain), ".".join(below + domain)
    assert (
        verdicts([f"https://{url}/", f"http://{blocked}"], Config(domains=(blocked,))) == ["url_blocklist.domains"] * 2
    )
    if ".".join(below) != blocked:
        assert verdicts([f"https://{blocked}/"], Config(domains=(url,))) == [None]


@given(st.text())
def test_any_text_is_an_address(url: str) -> None:
    """Nothing in the column stops the run."""
    verdicts([url], Config(domains=("bad.example",), words=("bad",)))
