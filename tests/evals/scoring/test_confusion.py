"""Counting gold against predicted labels."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.scoring.confusion import ConfusionMatrix, confusion_matrix

LABELS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["a", "b", "c", "d", None])), max_size=40)


def test_rows_are_gold_and_columns_predictions() -> None:
    confusion = confusion_matrix("aaaaabbbcc", "aaaabbbacb")
    assert confusion.labels == ("a", "b", "c")
    assert confusion.matrix.tolist() == [[4, 1, 0, 0], [1, 2, 0, 0], [0, 1, 1, 0]]
    assert (confusion.n, confusion.invalid, confusion.absent()) == (10, 0, [])


def test_predictions_outside_the_set_and_null_are_invalid() -> None:
    confusion = confusion_matrix(["A", "B", "A", "B"], ["A", "B", "z", None], ["A", "B"])
    assert confusion.matrix.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert confusion.invalid == 2
    assert confusion_matrix(["A"], [None]).matrix.tolist() == [[0, 1]]


def test_numbers_and_strings_are_the_same_labels() -> None:
    assert confusion_matrix([1, 0, 1], ["1", "0", 0], ["0", 1]) == confusion_matrix("101", "100")
    assert confusion_matrix([1.0, 0.5], ["1", "0.5"]) == confusion_matrix(["1", "0.5"], ["1", "0.5"])
    assert confusion_matrix(["1.0", "10.00"], [1, 10], [1.0, "10"]) == confusion_matrix(["1", "10"], ["1", "10"])
    assert confusion_matrix([True, "False"], ["true", False]) == confusion_matrix(["true", "false"], ["true", "false"])


def test_labels_keep_the_order_given_and_list_the_absent() -> None:
    confusion = confusion_matrix("0011", "0111", ["2", "1", "0"])
    assert confusion.labels == ("2", "1", "0")
    assert confusion.absent() == ["2"]


def test_gold_outside_the_set_names_row_and_value() -> None:
    with pytest.raises(DataError, match=r"row 3: label 'z' is not in the label set \(A, B\)") as caught:
        confusion_matrix("ABzz", "ABAB", "AB")
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_large_label_set_is_not_printed_whole() -> None:
    with pytest.raises(DataError, match="and 90 more"):
        confusion_matrix(["z"], ["0"], [str(number) for number in range(100)])


def test_null_gold_names_the_row() -> None:
    with pytest.raises(DataError, match="row 2: the label is null"):
        confusion_matrix(["A", None], ["A", "A"])


def test_columns_of_different_length() -> None:
    with pytest.raises(DataError, match="2 labels but 1 predictions"):
        confusion_matrix("ab", "a")


def test_a_label_given_twice() -> None:
    with pytest.raises(UsageError, match="'1' is given twice"):
        confusion_matrix("1", "1", [1, "1"])


@given(LABELS, LABELS)
def test_merged_shards_equal_the_whole(left: list[tuple[str, str | None]], right: list[tuple[str, str | None]]) -> None:
    def of(rows: list[tuple[str, str | None]]) -> ConfusionMatrix:
        return confusion_matrix([gold for gold, _ in rows], [pred for _, pred in rows])

    assert of(left) + of(right) == of(right) + of(left) == of(left + right)


def test_shards_merge_in_any_order() -> None:
    parts = [confusion_matrix("ab", "ba", "ba"), confusion_matrix("aa", "bb", "ba"), confusion_matrix("cb", "ca")]
    merged = [first + second + third for first, second, third in permutations(parts)]
    assert all(one == merged[0] for one in merged)
    assert merged[0].labels == ("a", "b", "c")


def test_no_rows() -> None:
    assert confusion_matrix([], []).n == 0
    assert confusion_matrix([], [], ["a"]).absent() == ["a"]


def test_comparison_with_something_else() -> None:
    assert confusion_matrix("a", "a") != 1
