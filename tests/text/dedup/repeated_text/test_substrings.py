"""Repeated passages: windows of words and what is cut out, against a quadratic search in plain Python."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gptctl.text.dedup.repeated_text.substrings import keys, remove, texts_at
from tests.text.dedup.plain import MARK, UNSPACED

PIECES = ["a ", "b ", "a", "é ", "c\n", "\n\n  b ", "c, ", "!", " ", "\n", "\u3000", "ab", "漢字", "ที่", "e\u0301"]
# One letter of a script without spaces, a run of other letters, or of anything else, each with its marks.
WORD = regex.compile(
    rf"(?V1)[{UNSPACED.pattern}&&[\p{{L}}\p{{N}}]]{MARK.pattern}*|[\p{{L}}\p{{N}}_--{UNSPACED.pattern}]"
    rf"[[\p{{L}}\p{{N}}_--{UNSPACED.pattern}]{MARK.pattern}]*|[^\p{{L}}\p{{N}}_\s\x1c-\x1f]+"
)
documents = st.lists(
    st.one_of(
        st.none(),
        st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
        st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=12),
    ),
    max_size=5,
)


def column(texts: Sequence[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def repeated(text: pa.LargeStringArray, length: int) -> NDArray[np.int64]:
    """The positions of every window but the first of each key."""
    found, positions = keys(text, length)
    _, first = np.unique(found, return_index=True)
    return np.delete(positions, first)


def oracle(texts: list[str | None], length: int) -> tuple[list[str | None], list[int], int]:
    """Compare each window with all before it: the texts left, the places of repeated windows, and spans cut out."""
    words = [[match.group() for match in WORD.finditer(text or "")] for text in texts]
    windows = [(d, k) for d in range(len(texts)) for k in range(len(words[d]) - length + 1)]
    gone: list[set[int]] = [set() for _ in texts]
    places = []
    for number, (d, k) in enumerate(windows):
        equal = [(e, j) for e, j in windows[:number] if words[e][j : j + length] == words[d][k : k + length]]
        if equal:
            places.append(sum(map(len, words[:d])) + k)
            e, j = equal[0]
            if e != d or j + length <= k:
                gone[d].update(range(k, k + length))
    spans = sum(k not in left and k - 1 in left for left in gone for k in range(1, max(left, default=0) + 2))
    return [None if t is None else cut(t, g) for t, g in zip(texts, gone, strict=True)], places, spans


def cut(text: str, gone: set[int]) -> str:
    """Remove words from a text, each run of them with one of the gaps beside it."""
    if not gone:
        return text
    matches = list(WORD.finditer(text))
    ends = [0, *(match.end() for match in matches)]
    gaps = [text[end : match.start()] for end, match in zip(ends, matches, strict=False)] + [text[ends[-1] :]]
    result, k = "", 0
    while k < len(matches):
        before = gaps[k]
        if k not in gone:
            result += before + matches[k].group()
            k += 1
            continue
        start = k
        while k in gone:
            k += 1
        if k == len(matches):
            return result
        after = gaps[k]
        if start == 0:
            seam = re.sub(r".*\n", "", after, flags=re.DOTALL) if "\n" in after else ""
        elif after and before.count("\n") <= after.count("\n"):
            seam = after
        else:
            seam = before or " "
        result += seam + matches[k].group()
        k += 1
    return result + gaps[-1]


@given(documents, st.integers(1, 5), st.integers(0, 2))
@settings(deadline=None, max_examples=500)
def test_equals_a_quadratic_search(texts: list[str | None], length: int, skip: int) -> None:
    """The same windows are found, and the same texts left, in slices of a column too."""
    text = column(texts).slice(skip)
    expected, places, spans = oracle(texts[skip:], length)
    duplicates = repeated(text, length)
    assert duplicates.tolist() == places
    result, count, size = remove(text, length, duplicates)
    assert result.to_pylist() == expected
    result.validate(full=True)
    assert count == spans
    assert size == sum(
        len((a or "").encode()) - len((b or "").encode()) for a, b in zip(texts[skip:], expected, strict=True)
    )


def test_combining_marks() -> None:
    """Words that differ in their marks are different, and no letter is cut."""
    text = column(["किताब का मूल किताब का मूल", "किताब के मूल", "ที่นี่มีปลา ที่นี่มีปู", "น้ำ"])
    assert len(np.unique(keys(text.slice(0, 2), 3)[0])) == 3 + 1
    assert len(keys(text.slice(3), 1)[0]) == 1
    result, _, _ = remove(text, 3, repeated(text, 3))
    assert result.to_pylist() == ["किताब का मूल", "किताब के मूल", "ที่นี่มีปลา ปู", "น้ำ"]


PASSAGE = " ".join(f"word{k}" for k in range(50))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Before. {PASSAGE} After.", "Before. After."),
        (f"Before.\n\n{PASSAGE}\n\n  After.\n", "Before.\n\n  After.\n"),
        (f"Before.\n{PASSAGE} After.", "Before.\nAfter."),
        (f"Before. {PASSAGE}\n    After.", "Before.\n    After."),
        (f"\n  {PASSAGE}\n    After.", "    After."),
        (f"{PASSAGE} After.", "After."),
        (f"Before. {PASSAGE}\n", "Before."),
        (f"({PASSAGE})", "( )"),
        (f" {PASSAGE}\n", ""),
        (PASSAGE.replace(" ", "\n") + "!", "!"),  # white space is not compared
        (PASSAGE.replace("word9 ", "Word9 "), PASSAGE.replace("word9 ", "Word9 ")),  # case is
    ],
)
def test_seams(text: str, left: str) -> None:
    """The text around a span stays, with one gap; a document of duplicates only is empty."""
    texts = column([f"First {PASSAGE} here.", text])
    result, _, _ = remove(texts, 50, repeated(texts, 50))
    assert result.to_pylist() == [f"First {PASSAGE} here.", left]


@pytest.mark.parametrize(("times", "left"), [(60, 60), (99, 99), (100, 50), (500, 50)])
def test_a_run_of_one_word(times: int, left: int) -> None:
    """A run keeps its first window, and goes as a whole where it stands in an earlier document."""
    texts = column(["ha " * times, "Well, " + "ha " * times + "well"])
    result, _, _ = remove(texts, 50, repeated(texts, 50))
    assert result.to_pylist() == [("ha " * left).rstrip() + " " * (left == times), "Well, well"]


def test_a_passage_across_documents_is_none() -> None:
    """Windows end with their documents."""
    middle = PASSAGE.index("word25")
    texts = column([PASSAGE, PASSAGE[:middle], PASSAGE[middle:]])
    assert not len(repeated(texts, 50))


def test_keys_do_not_depend_on_the_column_and_differ_with_the_order_of_words() -> None:
    """Each order of the same words has a key of its own, and so have runs that two words make in a regular manner."""
    rng = np.random.default_rng(1)
    orders = [" ".join(rng.permutation(PASSAGE.split())) for _ in range(2000)]
    regular = [f"{'a ' * k}b {'a ' * (49 - k)}" for k in range(50)]
    thue_morse = ["".join("xy"[(k.bit_count() + flip) % 2] + " " for k in range(50)) for flip in (0, 1)]
    found, _ = keys(column(orders + regular + thue_morse), 50)
    assert len(np.unique(found)) == len(found) == 2052
    assert keys(column(["Some " + orders[0]]), 50)[0][1] == found[0]


def test_positions_that_cannot_be() -> None:
    """Positions of another column are refused where they cannot be right."""
    with pytest.raises(AssertionError):
        remove(column([PASSAGE, "word"]), 50, np.array([1]))


@given(documents, st.integers(2, 4), st.integers(0, 1))
@settings(deadline=None)
def test_passages_as_they_stand(texts: list[str | None], length: int, skip: int) -> None:
    """What stands at a position has its key, in any order of positions."""
    text = column(texts).slice(skip)
    found, positions = keys(text, length)
    shown = texts_at(text, length, positions[::-1])
    assert keys(column(shown), length)[0].tolist() == found[::-1].tolist()
    assert all(passage in "\0".join(one or "" for one in text.to_pylist()) for passage in shown)
