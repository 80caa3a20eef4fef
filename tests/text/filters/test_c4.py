"""C4's rules: lines that go, documents that go, and datatrove's decisions and texts on 1,557 real documents."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch
from gptctl.text.filters.c4 import Config, measure, rules
from tests.text.filters.golden import decisions, texts

SENTENCES = (
    "One good sentence stands here. Two is another one. Three follows it. Four is the last but one. Five ends it."
)


def rewrite(text: pa.LargeStringArray, config: Config) -> tuple[pa.LargeStringArray, pa.StringArray]:
    """Return the texts and the reasons."""
    result = measure(DocumentBatch(text), config)
    assert result.text is not None
    return result.text, drop_reasons("c4", rules(config), result.figures)


def one(text: str, config: Config | None = None) -> tuple[str, str | None]:
    """Rewrite one document."""
    kept, why = rewrite(pa.array([text], pa.large_string()), config or Config())
    return kept[0].as_py(), why[0].as_py()


def test_lines_that_go() -> None:
    """Menus, notices and too long words go, citation marks too."""
    lines = [
        "Home | About",
        "Please enable JavaScript now.",
        "We use cookies on this site.",
        "x" * 1001 + " b c.",
        "Hi.",
    ]
    assert one("\n".join([*lines, SENTENCES.replace("it.", "it.[12]")])) == (SENTENCES, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too little.", "c4.min_sentences"),
        (f"{SENTENCES}\nLorem ipsum dolor sit amet.", "c4.filter_lorem_ipsum"),
        (f"{SENTENCES}\nint main() {'{'} return 0.", "c4.filter_curly_bracket"),
    ],
)
def test_documents_that_go(text: str, reason: str) -> None:
    """A dropped document keeps its text, for the rejects."""
    assert one(text) == (text, reason)


def test_lines_without_a_full_stop_can_stay() -> None:
    """FineWeb's variant of the filter."""
    text = f"A heading of some words\n{SENTENCES}"
    assert one(text, Config(filter_no_terminal_punct=False)) == (text, None)


@pytest.mark.parametrize(("name", "punctuated"), [("c4", True), ("c4_keep_punct", False)])
def test_agrees_with_datatrove(name: str, punctuated: bool) -> None:
    """All decisions agree, reasons and rewritten texts included."""
    config = Config(filter_no_terminal_punct=punctuated)
    kept, why = rewrite(texts(), config)
    names = {f"c4.{rule.key}": rule.datatrove for rule in rules(config)}
    for text, reason, expected in zip(kept.to_pylist(), why.to_pylist(), decisions(name), strict=True):
        assert (reason and names[reason]) == expected[1]
        if reason is None:
            assert hashlib.sha256(text.encode()).hexdigest()[:16] == expected[2]
