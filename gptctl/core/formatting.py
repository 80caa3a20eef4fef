"""Numbers, sizes and durations as text: one value looks the same in every table, message and report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86400


def format_number(value: Any) -> str:
    """Return a figure of a table: 12,000, 0.1234 or 3.2e-05; "-" for None, and other values as they print."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural: 1 document, 2,000 documents."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_interval(bounds: Sequence[float | None] | None) -> str:
    """Return "0.8123 to 0.8456", or nothing where a bound is missing."""
    if not bounds or None in bounds:
        return ""
    low, high = bounds
    return f"{low:.4f} to {high:.4f}"


def format_compact(value: float) -> str:
    """Return a number in few characters, as on an axis: 0.25, 12,000, 1.5M, 300B, 2.1T."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if scale <= abs(value) < 1000 * scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def format_bytes(count: float) -> str:
    """Return "1.5 MB" and the like, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def parse_bytes(text: str) -> int:
    """Return the number of bytes that "500MB", "2GB", "1.5GiB" or "1000" means. Raises ValueError for other text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", text.strip().lower())
    if not match:
        raise ValueError(f"'{text}' is not a size; write for example 500MB or 2GB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit) if unit else 0))


def parse_count(text: str) -> int:
    """Return the number that "20M", "1.5B", "2k", "1T" or "3000" means. Raises ValueError for other text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", text.strip().lower().replace(",", "").replace("_", ""))
    count = round(float(match[1]) * 1000 ** " kmbt".index(match[2] or " ")) if match else 0
    if count < 1:
        raise ValueError(f"'{text}' is not a number; write for example 20M, 1.5B or 3000")
    return count


def format_duration(seconds: float) -> str:
    """Return a duration in at most two units: 230 ms, 4.2 s, 48 s, 3 min 05 s, 2 h 05 min, 1 d 01 h."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR:02d} h"
