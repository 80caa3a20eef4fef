"""FineWeb's rules: one case for each, and datatrove's decisions on 1,557 real documents."""

from __future__ import annotations

import pytest

from tests.text.filters.golden import datatrove_reasons, decisions, reasons, texts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("This line is a whole sentence of good length.", None),
        ("\n \n", "fineweb.empty"),
        ("A heading without an end, long enough to count", "fineweb.min_punctuated_line_share"),
        ("Short.\nLines.\nOnly.", "fineweb.max_short_line_share"),
        ("This line is a whole sentence of good length.\n" * 2, "fineweb.max_duplicate_line_char_share"),
        (
            "Onewordlineoflengthoverthirtychars.\nAnotherwordlineoflengthoverthirty.\n\n\n\n",
            "fineweb.max_line_feeds_per_word",
        ),
    ],
)
def test_rules(text: str, reason: str | None) -> None:
    """Each rule has its reason."""
    assert reasons("fineweb", [text]) == [reason]


def test_agrees_with_datatrove() -> None:
    """All decisions agree, reasons included."""
    expected = [reason for _, reason in decisions("fineweb")]
    assert datatrove_reasons("fineweb", texts(), match_datatrove=True) == expected
