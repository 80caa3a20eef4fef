"""Repetition: small cases by hand, and datatrove's decisions on 1,557 real documents."""

from __future__ import annotations

import pyarrow as pa
import pytest

from gptctl.text.filters.gopher_repetition import Config, reasons
from tests.text.filters.golden import decisions, texts


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
    assert reasons(pa.array([text], pa.large_string()), Config()).to_pylist() == [reason]


def test_threshold_is_a_setting() -> None:
    """A higher threshold keeps what the paper's drops."""
    assert reasons(pa.array(["hi there"], pa.large_string()), Config(max_top_2_gram_char_share=1)).to_pylist() == [None]


def test_agrees_with_datatrove() -> None:
    """All decisions agree, reasons included."""
    expected = [reason for _, reason, *_ in decisions("gopher_repetition")]
    assert reasons(texts(), Config()).to_pylist() == expected
