"""Numbers, sizes and durations as text."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gptctl.core.formatting import (
    format_bytes,
    format_compact,
    format_count,
    format_duration,
    format_interval,
    format_number,
    parse_bytes,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"), (0, "0 s"), (0.00052, "0.52 ms"), (0.4, "400 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"),
        (3599, "59 min 59 s"), (3600, "1 h 00 min"), (86_399, "23 h 59 min"), (90_000, "1 d 01 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (True, "yes"), (False, "no"), (1234567, "1,234,567"), (0.0, "0.0000"), (0.5, "0.5000"),
        (1.4697, "1.4697"), (0.00004, "4e-05"), (-0.25, "-0.2500"), (123.456, "123.5"), (12345.6, "12,346"),
        (math.nan, "nan"), (math.inf, "inf"), ("macro", "macro"),
    ],
)  # fmt: skip
def test_numbers(value: Any, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"), (999, "999"), (12_000, "12,000"), (1.5e6, "1.5M"), (3e11, "300B"), (2.1e12, "2.1T"),
        (4.2e15, "4.2e+15"), (-2e6, "-2M"), (0, "0"),
    ],
)  # fmt: skip
def test_compact_numbers(value: float, text: str) -> None:
    assert format_compact(value) == text


def test_counts() -> None:
    assert [format_count(n, "row") for n in (0, 1, 2, 12_000)] == ["0 rows", "1 row", "2 rows", "12,000 rows"]


def test_bytes_and_intervals() -> None:
    assert [format_bytes(size) for size in (0, 999, 1_500_000, 8e10, 2e15)] == [
        "0 B", "999 B", "1.5 MB", "80.0 GB", "2000.0 TB",
    ]  # fmt: skip
    assert format_interval([0.81234, 0.9]) == "0.8123 to 0.9000"
    assert format_interval([None, 0.9]) == format_interval(None) == ""


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500_000_000), ("1.5GiB", 3 * 2**29), ("1000", 1000), (" 2 kb ", 2000), ("7B", 7)]
)
def test_bytes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1MB", "1XB", "1,5GB"])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)
