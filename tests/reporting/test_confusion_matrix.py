"""The picture of a confusion matrix."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from gptctl.reporting.matplotlib_plots import confusion_matrix


def texts(picture: bytes) -> list[str]:
    return [found.text or "" for found in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


def test_it_shows_labels_and_counts() -> None:
    picture = confusion_matrix(["ham", "$pam_1$"], [[1234, 2], [0, 7]], [0, 0])
    shown = texts(picture)
    assert {"ham", "$pam_1$", "1,234", "2", "7", "true", "predicted"} <= set(shown)
    assert "invalid" not in shown
    assert "0" not in shown


def test_invalid_predictions_have_a_column() -> None:
    assert {"invalid", "3"} <= set(texts(confusion_matrix(["a"], [[1]], [3])))


def test_equal_counts_give_equal_bytes() -> None:
    assert confusion_matrix(["a", "b"], [[1, 2], [3, 4]], [0, 0]) == confusion_matrix(
        ["a", "b"], [[1, 2], [3, 4]], [0, 0]
    )


@pytest.mark.parametrize("count", [1, 31, 120])
def test_any_number_of_classes(count: int) -> None:
    matrix = [[5 if row == column else 0 for column in range(count)] for row in range(count)]
    shown = texts(confusion_matrix([f"c{i}" for i in range(count)], matrix, [0] * count))
    assert ("5" in shown) == (count <= 30)
