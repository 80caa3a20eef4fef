"""Lines and paragraphs of many documents go, the rest stays as it was."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch, FilterResult
from gptctl.text.filters.repeated_lines import Config, measure, rules
from tests.text.filters.golden import texts

MENU = "Home | About | Contact | Imprint"
FOOTER = "Copyright 2024 by the makers of this page\nAll rights reserved"


def small(**settings: Any) -> Config:
    """Settings for a handful of documents."""
    return Config(**({"min_documents": 3, "min_kept_share": 0.0} | settings))


def run(documents: Sequence[str | None], config: Config) -> tuple[list[str | None], FilterResult]:
    """Return the rewritten texts, and all that was result."""
    text = pa.array(documents, pa.large_string())
    result = measure(DocumentBatch(text), config)
    return (text if result.text is None else result.text).to_pylist(), result


def page(body: str) -> str:
    """Put a menu and a footer around a text."""
    return f"{MENU}\n\n{body}\n\n{FOOTER}"


def test_paragraphs_go() -> None:
    """Menus and footers go with the blank lines around them; what they share with a longer paragraph stays."""
    bodies = ["First text.\n\nIn two parts.", "Second text.", "Third text."]
    whole = f"Fourth text.\n{MENU}"
    after, result = run([page(bodies[0]), page(bodies[1]), page(bodies[2]), whole], small())
    assert after == [*bodies, whole]
    assert result.stats == {"repeated_lines": 9, "repeated_line_bytes": 3 * len((MENU + FOOTER).replace("\n", ""))}


def test_lines_go() -> None:
    """Lines go wherever they stand, whatever their indentation."""
    documents = [f"one\n  {MENU}\ntwo", f"three\n{MENU}", f"{MENU}\n\nfour\n\n\n\t{MENU}\n\nfive"]
    assert run(documents, small(unit="line"))[0] == ["one\ntwo", "three", "four\n\nfive"]
    assert run(documents, small(unit="paragraph"))[0] == documents


def test_both() -> None:
    """What is left of a paragraph without its repeated lines can be a repeated paragraph."""
    documents = [f"short one\nshort two\n{line} stands in three texts" for line in ("A", "B", "C")] * 3
    assert run(documents, small(unit="both"))[0] == [""] * 9
    kept = "short one\nshort two"
    assert run(documents, small(unit="line"))[0] == [kept] * 9


def test_thresholds() -> None:
    """Too few documents, too small a share of them, or too short: a line stays. Twice in one text counts once."""
    documents = [f"{MENU}\n{MENU}\none", f"{MENU}\ntwo", "three", "four"]
    assert run(documents, small(unit="line"))[0] == documents
    gone = ["one", "two", "three", "four"]
    assert run(documents, small(unit="line", min_documents=2))[0] == gone
    assert run(documents, small(unit="line", min_documents=2, min_document_share=0.5))[0] == gone
    assert run(documents, small(unit="line", min_documents=2, min_document_share=0.6))[0] == documents
    assert run(documents, small(unit="line", min_documents=2, min_chars=len(MENU)))[0] == gone
    assert run(documents, small(unit="line", min_documents=2, min_chars=len(MENU) + 1))[0] == documents


def test_documents_that_go() -> None:
    """A document of boilerplate only goes; an empty one does not by this rule, and its lines are not counted."""
    documents: list[str] = [page("A text long enough to be worth keeping. " * 3)] * 1 + [page("Other.")] * 1
    config = small(min_documents=2, min_kept_share=0.3)
    after, result = run([*documents, "", None, " \n "], config)
    reasons = drop_reasons("repeated_lines", rules(config), result.figures).to_pylist()
    assert reasons == [None, "repeated_lines.min_kept_share", None, None, None]
    assert result.stats["repeated_lines"] == 3
    assert after == [documents[0].strip().split("\n\n")[1], *documents[1:], "", None, " \n "]
    assert np.isnan(result.figures[2:, 0]).all()


def test_untouched() -> None:
    """Documents without repeated lines keep every byte, a batch of them has no new text."""
    odd: list[str | None] = ["\n\n a \n\n\n\nb\n", None, "", "c\r\nd", "\n"]
    assert run(odd, small())[1].text is None
    assert run([*odd, MENU, MENU, MENU], small())[0][:5] == odd
    assert run([], small())[1].figures.shape == (0, 1)
    sliced = pa.array(["x", *odd, MENU, MENU, MENU], pa.large_string()).slice(1)
    assert measure(DocumentBatch(sliced), small()).text.to_pylist() == [*odd, "", "", ""]  # type: ignore[union-attr]


LINES = st.sampled_from(["", " ", "aa", "  aa", "bb", "cc", "dd", "c", "d"])
DOCUMENTS = st.lists(st.lists(LINES, max_size=8).map("\n".join), max_size=8)


@given(DOCUMENTS, st.sampled_from(["line", "paragraph", "both"]), st.integers(2, 4), st.integers(1, 4))
def test_twice_is_once(documents: list[str], unit: str, min_documents: int, min_chars: int) -> None:
    """A second run finds nothing, and nothing is added or moved."""
    config = small(unit=unit, min_documents=min_documents, min_chars=min_chars)
    once, _ = run(documents, config)
    assert run(once, config)[0] == once
    for before, after in zip(documents, once, strict=True):
        lines = iter((before or "").split("\n"))
        assert not after or all(line in lines for line in after.split("\n"))


@given(DOCUMENTS, st.integers(2, 4), st.integers(1, 3))
def test_lines_counted_one_by_one(documents: list[str], min_documents: int, min_chars: int) -> None:
    """The lines that go are those that a plain count finds."""
    split = [[line.strip() for line in text.split("\n")] for text in documents]
    holders = Counter(line for lines in split for line in set(lines))
    stay = [[x for x in lines if x and (holders[x] < min_documents or len(x) < min_chars)] for lines in split]
    after, _ = run(documents, small(unit="line", min_documents=min_documents, min_chars=min_chars))
    assert [[line.strip() for line in (text or "").split("\n") if line.strip()] for text in after] == stay


@given(DOCUMENTS, st.integers(2, 4), st.integers(1, 5))
def test_paragraphs_counted_one_by_one(documents: list[str], min_documents: int, min_chars: int) -> None:
    """The paragraphs that go are those that a plain count finds."""

    def paragraphs(text: str | None) -> list[str]:
        plain = "\n".join(line.strip() for line in (text or "").split("\n"))
        return [part for part in re.split(r"\n\n+", plain.strip("\n")) if part]

    holders = Counter(part for text in documents for part in set(paragraphs(text)))
    expected = [
        [x for x in paragraphs(text) if holders[x] < min_documents or len(x.replace("\n", "")) < min_chars]
        for text in documents
    ]
    after, _ = run(documents, small(min_documents=min_documents, min_chars=min_chars))
    assert [paragraphs(text) for text in after] == expected


def test_on_code() -> None:
    """Of Python's own files little goes by default."""
    documents = [path.read_text(encoding="utf-8") for path in sorted(Path(json.__file__).parent.parent.glob("*.py"))]
    text = pa.array(documents, pa.large_string())
    result = measure(DocumentBatch(text), Config())
    changed = text if result.text is None else result.text
    assert 0.995 < changed.nbytes / text.nbytes <= 1


@pytest.mark.parametrize("unit", ["line", "paragraph", "both"])
def test_on_real_documents(unit: str) -> None:
    """Menus and footers of documentation pages go, a sixth of their bytes or more, and a second run finds nothing."""
    config = small(unit=unit, min_documents=5)
    once, result = run(texts().to_pylist(), config)
    assert result.stats["repeated_lines"] > 4000
    assert not any("Report a bug or suggest an enhancement" in (text or "") for text in once)
    assert run(once, config)[0] == once
