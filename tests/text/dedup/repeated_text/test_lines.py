"""Repeated lines and paragraphs: keys and removal against plain Python, and what is left of a document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gptctl.text.dedup.repeated_text.lines import Unit, keys, remove, texts_at

UNITS: tuple[Unit, Unit] = ("line", "paragraph")
PIECES = [
    "a",
    "b",
    "A",
    "long line",
    "  long line",
    "1 of 2",
    "12 of 7",
    "é",
    "ÉÉ",
    " ",
    "\t",
    "\u3000",
    "",
    "\r",
    "\n\n",
]
documents = st.lists(
    st.one_of(st.none(), st.lists(st.sampled_from(PIECES), max_size=8).map("\n".join), st.text(max_size=12)), max_size=6
)


def column(texts: list[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def units(lines: list[str], unit: Unit) -> Iterator[tuple[list[int], str]]:
    """Each unit: the numbers of its lines, and what is compared."""
    if unit == "line":
        yield from (([i], line.strip()) for i, line in enumerate(lines) if line.strip())
        return
    for solid, group in groupby(range(len(lines)), key=lambda i: bool(lines[i].strip())):
        if solid:
            numbers = list(group)
            yield numbers, "\n".join(lines[i].strip() for i in numbers)


def compared(text: str, fold: bool) -> str:
    lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return re.sub(r"\d+", "0", lower) if fold else text


def without(lines: list[str], gone: set[int]) -> str:
    """The lines that stay; of blank ones beside a gap only the first, and none at the ends."""
    result: list[str] = []
    solid = [i for i, line in enumerate(lines) if line.strip() and i not in gone]
    for before, after in zip([-1, *solid], [*solid, len(lines)], strict=True):
        gap = range(before + 1, after)
        if any(i in gone for i in gap):
            blanks = [lines[i] for i in gap if not lines[i].strip()]
            result += blanks[:1] if before >= 0 and after < len(lines) else []
        else:
            result += [lines[i] for i in gap]
        result += lines[after : after + 1]
    return "\n".join(result)


def oracle(texts: list[str | None], unit: Unit, least: int, fold: bool) -> tuple[list[str | None], list[int]]:
    """The texts without every unit seen before, and the positions of those."""
    seen: set[str] = set()
    duplicates: list[int] = []
    result: list[str | None] = []
    position = 0
    for text in texts:
        lines, gone = (text or "").split("\n"), set[int]()
        for numbers, what in units(lines, unit):
            if len(what.replace("\n", "")) < least:
                continue
            if compared(what, fold) in seen:
                duplicates.append(position)
                gone.update(numbers)
            seen.add(compared(what, fold))
            position += 1
        result.append(None if text is None else without(lines, gone))
    return result, duplicates


def repeated(found: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every position but the first of each key."""
    _, first = np.unique(found, return_index=True)
    return np.delete(positions, first)


@given(documents, st.sampled_from(UNITS), st.integers(0, 6), st.booleans(), st.integers(0, 2))
@settings(deadline=None, max_examples=500)
def test_equals_plain_python(texts: list[str | None], unit: Unit, least: int, fold: bool, skip: int) -> None:
    """Keys find the same duplicates, and removal gives the same texts, in slices of a column too."""
    text = column(texts).slice(skip)
    expected, duplicates = oracle(texts[skip:], unit, least, fold)
    found, positions = keys(text, unit, least, fold)
    assert repeated(found, positions).tolist() == duplicates
    result, count, size = remove(text, unit, least, np.array(duplicates, np.int64))
    assert result.to_pylist() == expected
    result.validate(full=True)
    assert count == len(duplicates)
    assert size == sum(
        len((a or "").encode()) - len((b or "").encode()) for a, b in zip(texts[skip:], expected, strict=True)
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("menu\n\n  first\n\tsecond", "  first\n\tsecond"),  # indentation stays, blank lines at the start go
        ("first\n\nmenu\n\n\nsecond", "first\n\nsecond"),  # one blank line stays
        ("first\nmenu\nsecond", "first\nsecond"),  # none comes in
        ("first\n\n\n\nsecond\n", "first\n\n\n\nsecond\n"),  # blank lines elsewhere stay
        ("first\n\n menu \n", "first"),
        ("menu\n\nmenu\n", ""),  # nothing but duplicates
    ],
)
def test_what_is_left(text: str, left: str) -> None:
    """The gap closes, the rest stays as it is; a document of duplicates only is empty."""
    columns = column(["menu", text])
    result, _, size = remove(columns, "line", 4, repeated(*keys(columns, "line", 4)))
    assert result.to_pylist() == ["menu", left]
    assert size == len(text) - len(left)


def test_paragraphs_are_compared_as_a_whole() -> None:
    """A paragraph that shares a line with another one stays."""
    texts = column(["one\ntwo\n\nthree", "two\n\n  one\n two \n\nfour"])
    result, count, _ = remove(texts, "paragraph", 1, repeated(*keys(texts, "paragraph", 1)))
    assert (result.to_pylist(), count) == (["one\ntwo\n\nthree", "two\n\nfour"], 1)


def test_keys_do_not_depend_on_the_column() -> None:
    """Tasks are compared with one another."""
    first, _ = keys(column(["x", None, "some line"]), "line", 3)
    second, _ = keys(column(["\tsome line "]), "line", 9)
    assert first.tolist() == second.tolist()


def test_a_position_that_cannot_be() -> None:
    """Positions of another column are refused where they cannot be right."""
    with pytest.raises(IndexError):
        remove(column(["one line"]), "line", 1, np.array([7]))


@given(documents, st.sampled_from(UNITS), st.integers(0, 6), st.booleans(), st.integers(0, 2), st.integers(1, 3))
@settings(deadline=None)
def test_units_as_they_stand(texts: list[str | None], unit: Unit, least: int, fold: bool, skip: int, step: int) -> None:
    """What stands at a position has its key, in any order of positions."""
    text = column(texts).slice(skip)
    found, positions = keys(text, unit, least, fold)
    shown = texts_at(text, unit, least, positions[::-step])
    assert keys(column([*shown]), unit, least, fold)[0].tolist() == found[::-step].tolist()
    assert all(one in "\0".join(document or "" for document in text.to_pylist()) for one in shown)
