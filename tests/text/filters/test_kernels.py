"""Compiled filters and plain Python agree on any text, figure by figure."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from unicodedata import category

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.core.plugins import load
from gptctl.text.cleaning.rule import drop_reasons
from gptctl.text.filters import DocumentBatch, c4
from gptctl.text.kernels.characters import ALPHA, DIGIT, LINE_END, LINE_ENDS, MARK, SPACE, WORD, character_classes
from gptctl.text.segmentation import separate_text
from gptctl.text.words import DATATROVE_WORD, Words, split_batch, word_pattern
from tests.text.filters import plain
from tests.text.filters.golden import texts as mixed_texts

PIECES = [
    "a", "b", "the", "and", "of", "The", "word", "é", "漢字", "かな", "ที่", "की", "\u0301", "\ufe0f", "\u200c", "½", "Ⅷ", "٣", "\U0001f600", "_", "\u200b", "a" * 1001,
    ".", "...", "…", "!", "?", '"', "'", "-", "•", "#", "{", "。", " ", "  ", "\t", "\xa0", "\u3000",
    "\n", "\n\n", "\n\n\n", "\r\n", "\r", "\x85", "\u2028", "\x1c", "\x0b", "\0",
    "[1]", "[", "[]", "[٣]", "[edit]", "[citation needed]", "use cookies", "use coo\u212aies", "Lorem Ipsum", "JavaScript",
    "İ", "one good sentence stands here.", "terms of use",
]  # fmt: skip
nasty = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join),
    st.lists(st.sampled_from(PIECES[:6]), max_size=60).map(" ".join),
    st.text(max_size=80),
)
columns = st.lists(nasty, min_size=1, max_size=4).map(lambda documents: pa.array(documents, pa.large_string()))
FILTERS: dict[str, Callable[[str, Any], list[float]]] = {
    "gopher_repetition": plain.repetition,
    "gopher_quality": plain.quality,
    "fineweb": plain.web_lines,
}


def check(name: str, text: pa.LargeStringArray) -> None:
    module = load("gptctl.text.filters", name)
    figures = module.measure(DocumentBatch(text, match_datatrove=True, all_figures=True), module.Config()).figures
    for row, document in enumerate(text.to_pylist()):
        expected = FILTERS[name](document, module.Config())
        np.testing.assert_array_equal(figures[row, : len(expected)], expected, err_msg=repr(document)[:500])


@pytest.mark.parametrize("name", FILTERS)
@settings(deadline=None, max_examples=int(os.environ.get("GPTCTL_FUZZ", "100")))
@given(columns)
def test_figures_of_any_text(name: str, text: pa.LargeStringArray) -> None:
    """Documents, and slices of them, which begin inside Arrow's buffers."""
    check(name, text)
    check(name, text[1:])


@pytest.mark.parametrize("name", FILTERS)
def test_figures_of_real_documents(name: str) -> None:
    """The same on 1,557 documents."""
    check(name, mixed_texts())


@settings(deadline=None, max_examples=int(os.environ.get("GPTCTL_FUZZ", "100")))
@given(columns, st.booleans(), st.integers(0, 3))
def test_sentences_of_any_text(text: pa.LargeStringArray, punctuated: bool, sentences: int) -> None:
    """Reasons and rewritten texts."""
    config = c4.Config(filter_no_terminal_punct=punctuated, min_sentences=sentences, min_line_words=sentences)
    result = c4.measure(DocumentBatch(text), config)
    assert result.text is not None
    result.text.validate(full=True)
    reasons = drop_reasons("c4", c4.rules(config), result.figures).to_pylist()
    assert list(zip(result.text.to_pylist(), reasons, strict=True)) == [
        plain.sentences(t, config) for t in text.to_pylist()
    ]


@settings(deadline=None, max_examples=int(os.environ.get("GPTCTL_FUZZ", "100")))
@given(columns)
def test_words_of_any_text(text: pa.LargeStringArray) -> None:
    """Words are the pattern's, also of a subset, and without marks and segmentation."""
    words = split_batch(text, "regex")
    expected = [word_pattern().findall(separate_text(t)) for t in text.to_pylist()]
    assert [words.strings(row) for row in range(len(text))] == expected
    last = words.filter(np.arange(len(text)) == len(text) - 1)
    assert isinstance(last, Words)
    assert last.strings(0) == expected[-1]
    theirs = split_batch(text, "regex", match_datatrove=True)
    assert [theirs.strings(row) for row in range(len(text))] == [DATATROVE_WORD.findall(t) for t in text.to_pylist()]


def test_kinds_of_all_characters() -> None:
    """Each of the 1,114,112 code points is classed as Python's str classes it."""
    table = character_classes()
    characters = [chr(point) for point in range(len(table))]
    for bit, is_member in (
        (WORD, lambda c: c.isalnum() or c == "_"), (SPACE, str.isspace), (ALPHA, str.isalpha), (DIGIT, str.isdecimal),
        (LINE_END, lambda c: c in LINE_ENDS), (MARK, lambda c: category(c)[0] == "M" or c in "\u0e33\u0eb3\u200c\u200d"),
    ):  # fmt: skip
        assert np.array_equal((table & bit) != 0, np.fromiter(map(is_member, characters), bool, len(table)))
    assert all(len(f"a{character}b".splitlines()) == 2 for character in LINE_ENDS)
