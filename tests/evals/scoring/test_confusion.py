"""Counting gold against predicted labels."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.scoring.confusion import Confusion, count

LABELS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["a", "b", "c", "d", None])), max_size=40)


def test_rows_are_gold_and_columns_predictions() -> None:
    confusion = count("aaaaabbbcc", "aaaabbbacb")
    assert confusion.labels == ("a", "b", "c")
    assert confusion.matrix.tolist() == [[4, 1, 0, 0], [1, 2, 0, 0], [0, 1, 1, 0]]
    assert (confusion.n, confusion.invalid, confusion.absent()) == (10, 0, [])


def test_predictions_outside_the_set_and_null_are_invalid() -> None:
    confusion = count(["A", "B", "A", "B"], ["A", "B", "z", None], ["A", "B"])
    assert confusion.matrix.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert confusion.invalid == 2
    assert count(["A"], [None]).matrix.tolist() == [[0, 1]]


def test_numbers_and_strings_are_the_same_labels() -> None:
    assert count([1, 0, 1], ["1", "0", 0], ["0", 1]) == count("101", "100")
    assert count([1.0, 0.5], ["1", "0.5"]) == count(["1", "0.5"], ["1", "0.5"])


def test_labels_keep_the_order_given_and_list_the_absent() -> None:
    confusion = count("0011", "0111", ["2", "1", "0"])
    assert confusion.labels == ("2", "1", "0")
    assert confusion.absent() == ["2"]


def test_gold_outside_the_set_names_row_and_value() -> None:
    with pytest.raises(DataError, match=r"row 3: label 'z' is not in the label set \(A, B\)") as caught:
        count("ABzz", "ABAB", "AB")
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_large_label_set_is_not_printed_whole() -> None:
    with pytest.raises(DataError, match="and 90 more"):
        count(["z"], ["0"], [str(number) for number in range(100)])


def test_null_gold_names_the_row() -> None:
    with pytest.raises(DataError, match="row 2: the label is null"):
        count(["A", None], ["A", "A"])


def test_columns_of_different_length() -> None:
    with pytest.raises(DataError, match="2 labels but 1 predictions"):
        count("ab", "a")


def test_a_label_given_twice() -> None:
    with pytest.raises(UsageError, match="'1' is given twice"):
        count("1", "1", [1, "1"])


@given(LABELS, LABELS)
def test_merged_shards_equal_the_whole(left: list[tuple[str, str | None]], right: list[tuple[str, str | None]]) -> None:
    def of(rows: list[tuple[str, str | None]]) -> Confusion:
        return count([gold for gold, _ in rows], [pred for _, pred in rows])

    assert of(left) + of(right) == of(right) + of(left) == of(left + right)


def test_shards_merge_in_any_order() -> None:
    parts = [count("ab", "ba", "ba"), count("aa", "bb", "ba"), count("cb", "ca")]
    merged = [first + second + third for first, second, third in permutations(parts)]
    assert all(one == merged[0] for one in merged)
    assert merged[0].labels == ("a", "b", "c")


def test_no_rows() -> None:
    assert count([], []).n == 0
    assert count([], [], ["a"]).absent() == ["a"]


def test_comparison_with_something_else() -> None:
    assert count("a", "a") != 1
