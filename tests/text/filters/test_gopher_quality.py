"""Quality: one case for each rule, and datatrove's decisions on 1,557 real documents."""

from __future__ import annotations

import pytest

from tests.text.filters.golden import datatrove_reasons, decisions, reasons, texts

PROSE = "It was the best of times, and it was the worst of times that people have known, with hope to be had. " * 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("", "gopher_quality.min_words"),
        ("a b " * 50, "gopher_quality.min_mean_word_chars"),
        ("incomprehensibilities " * 50, "gopher_quality.max_mean_word_chars"),
        ("word # " * 60, "gopher_quality.max_hashes_per_word"),
        ("word word ... " * 60, "gopher_quality.max_ellipses_per_word"),
        ("- words of the list\n" * 60, "gopher_quality.max_bullet_line_share"),
        (
            "many more words before the very end of this long line of text...\n" * 10,
            "gopher_quality.max_ellipsis_line_share",
        ),
        ("word 1234 " * 60, "gopher_quality.min_alpha_word_share"),
        ("Nobody says common words here " * 20, "gopher_quality.min_stop_words"),
    ],
)
def test_rules(text: str, reason: str | None) -> None:
    """Each rule has its reason."""
    assert reasons("gopher_quality", [text]) == [reason]


def test_bounds_can_be_opened() -> None:
    """With every bound open even nothing passes."""
    opened = {"min_words": 0, "min_mean_word_chars": 0, "min_alpha_word_share": 0, "min_stop_words": 0}
    assert reasons("gopher_quality", [""], **opened) == [None]


def test_agrees_with_datatrove() -> None:
    """All decisions agree, reasons included."""
    expected = [reason for _, reason, *_ in decisions("gopher_quality")]
    assert datatrove_reasons("gopher_quality", texts(), match_datatrove=True) == expected
