"""Whole columns of tokens and text, against plain Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.text import arrow_arrays
from gptctl.text.tokenization import token_rows

ROWS = st.lists(st.lists(st.integers(0, 2**16 - 1), max_size=9), max_size=9)


def lists(rows: list[list[int]], dtype: type = np.uint16) -> pa.LargeListArray:
    return pa.array(rows, pa.large_list(pa.from_numpy_dtype(np.dtype(dtype))))


@settings(deadline=None)
@given(ROWS, st.data())
def test_rows_are_closed_filtered_and_lists_again(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    start = data.draw(st.integers(0, len(rows)))
    for dtype in (np.uint16, np.uint32):
        end = np.array([7], dtype).tobytes()
        packed = token_rows.to_binary(lists(rows, dtype).slice(start))
        assert token_rows.to_lists(packed, np.dtype(dtype)).to_pylist() == rows[start:]
        made = token_rows.append(packed, np.array(chosen[start:], bool), end)
        expected = [row + [7] * one for row, one in zip(rows[start:], chosen[start:], strict=True)]
        assert token_rows.to_lists(made, np.dtype(dtype)).to_pylist() == expected
        made = token_rows.append(packed, None, end).filter(pa.array(chosen[start:], pa.bool_()))
        expected = [[*row, 7] for row, one in zip(rows[start:], chosen[start:], strict=True) if one]
        assert token_rows.to_lists(made, np.dtype(dtype)).to_pylist() == expected


@settings(deadline=None)
@given(st.lists(st.text("ab é日 \n\t", max_size=12), max_size=8), st.integers(0, 3))
def test_words_between_blanks(texts: list[str], start: int) -> None:
    column = pa.array(texts, pa.large_string()).slice(start)
    assert token_rows.count_words(column) == sum(len(text.split()) for text in texts[start:])


def test_words_across_the_chunks_of_a_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "some words of a text  and\nothers " * 20
    for size in (1, 2, 7, 64):
        monkeypatch.setattr(token_rows, "CHUNK_BYTES", size)
        assert token_rows.count_words(pa.array([text, text.strip(), "x"], pa.large_string())) == 281


def test_views_and_ids_in_use() -> None:
    texts = ["", "né", "日本", ""]
    column = pa.array(["x", *texts], pa.large_string()).slice(1)
    assert [bytes(view).decode() for view in arrow_arrays.string_views(column)] == texts
    assert token_rows.ids_in_use(lists([[1, 1], [], [3]]), 5).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("text", "count"), [("人工智能 abc", 4), ("ไก่", 3), ("ខ្មែរ", 5), ("မြန်", 4), ("한국 हिन्दी é “x” 😀", 0), ("", 0)]
)
def test_unspaced_characters(text: str, count: int) -> None:
    """Characters of scripts without spaces, in slices of a column too."""
    column = pa.array(["字", text, text, None], pa.large_string())
    assert token_rows.count_unspaced(column[1:]) == 2 * count
