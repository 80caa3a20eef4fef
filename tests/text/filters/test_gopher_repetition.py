"""Repetition: small cases by hand, and datatrove's decisions on 1,557 real documents."""

from __future__ import annotations

import pytest

from tests.text.filters.golden import decisions, reasons, texts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \t ", None),
        ("\n", "dup_line_frac"),
        ("hi there", "top_2_gram"),
        ("para\n\npara\n\nother", "dup_para_frac"),
        ("same line\nsame line\nsame line\nother words here", "dup_line_frac"),
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
    assert reasons("gopher_repetition", texts(), compat=True) == expected
