"""FineWeb's rules: one case for each, and datatrove's decisions on 1,557 real documents."""

from __future__ import annotations

import pytest

from tests.text.filters.golden import decisions, reasons, texts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("This line is a whole sentence of good length.", None),
        ("\n \n", "empty"),
        ("A heading without an end, long enough to count", "line_punct_ratio"),
        ("Short.\nLines.\nOnly.", "short_line_ratio"),
        ("This line is a whole sentence of good length.\n" * 2, "char_dup_ratio"),
        ("Onewordlineoflengthoverthirtychars.\nAnotherwordlineoflengthoverthirty.\n\n\n\n", "list_ratio"),
    ],
)
def test_rules(text: str, reason: str | None) -> None:
    """Each rule has its reason."""
    assert reasons("fineweb", [text]) == [reason]


def test_agrees_with_datatrove() -> None:
    """All decisions agree, reasons included."""
    expected = [reason for _, reason in decisions("fineweb")]
    assert reasons("fineweb", texts(), compat=True) == expected
