"""Repetition: small cases by hand, and datatrove's decisions on 1,557 real documents."""

from __future__ import annotations

import pytest

from tests.text.filters.golden import datatrove_reasons, decisions, reasons, texts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "gopher_repetition.empty"),
        (" \t ", None),
        ("\n", "gopher_repetition.max_duplicate_line_share"),
        ("hi there", "gopher_repetition.max_top_2_gram_char_share"),
        ("para\n\npara\n\nother", "gopher_repetition.max_duplicate_paragraph_share"),
        ("same line\nsame line\nsame line\nother words here", "gopher_repetition.max_duplicate_line_share"),
    ],
)
def test_by_hand(text: str, reason: str | None) -> None:
    """Cases that datatrove's documentation leaves open."""
    assert reasons("gopher_repetition", [text]) == [reason]


def test_threshold_is_a_setting() -> None:
    """A higher threshold keeps what the paper's drops."""
    assert reasons("gopher_repetition", ["hi there"], max_top_2_gram_char_share=1) == [None]


def test_agrees_with_datatrove() -> None:
    """All decisions agree, reasons included."""
    expected = [reason for _, reason, *_ in decisions("gopher_repetition")]
    assert datatrove_reasons("gopher_repetition", texts(), match_datatrove=True) == expected
