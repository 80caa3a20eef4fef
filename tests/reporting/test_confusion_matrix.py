"""The picture of a confusion matrix."""

from __future__ import annotations

from typing import Literal
from xml.etree import ElementTree

import pytest

from gptctl.reporting.fonts import find_fonts
from gptctl.reporting.matplotlib_plots import confusion_matrix
from gptctl.reporting.matrix import Matrix

SVG = "{http://www.w3.org/2000/svg}"


def picture(
    labels: list[str], counts: list[list[int]], invalid: list[int], kind: Literal["svg", "png"] = "svg"
) -> bytes:
    matrix = Matrix.from_report({"labels": labels, "matrix": counts, "invalid": invalid})
    return confusion_matrix(matrix, "Confusion matrix, test: 9 texts", kind)


def texts(svg: bytes) -> list[str]:
    return [found.text or "" for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_it_shows_title_labels_counts_and_what_the_colours_mean() -> None:
    svg = picture(["ham", "$pam_1$"], [[1234, 2], [0, 7]], [0, 0])
    shown = texts(svg)
    assert {"ham", "$pam_1$", "1,234", "2", "7", "true", "predicted", "100%"} <= set(shown)
    assert {"Confusion matrix, test: 9 texts", "share of the true class (row)"} <= set(shown)
    assert "none of them" not in shown
    assert "0" not in shown


def test_screen_readers_get_a_title_and_a_description() -> None:
    root = ElementTree.fromstring(picture(["<b>", "&"], [[3, 2], [0, 4]], [0, 0]))
    assert root.attrib["role"] == "img"
    assert [(child.tag, child.text) for child in root[:2]] == [
        (f"{SVG}title", "Confusion matrix, test: 9 texts"),
        (f"{SVG}desc", "7 of 9 right; 2 <b> predicted as &"),
    ]


def test_invalid_predictions_have_a_column_and_an_empty_label_a_name() -> None:
    assert {"none of them", "3", "(empty)"} <= set(texts(picture([""], [[1]], [3])))


def test_equal_counts_give_equal_bytes() -> None:
    for kind in ("svg", "png"):
        first, again = (picture(["a", "b"], [[1, 2], [3, 4]], [0, 0], kind) for _ in range(2))
        assert first == again
    assert first.startswith(b"\x89PNG")


def test_characters_without_a_font_are_named() -> None:
    unassigned = "\U0003fffd"
    assert find_fonts("spam").missing == ""
    assert find_fonts(f"spam {unassigned}").missing == unassigned
    picture([f"a{unassigned}"], [[1]], [0], "png")


@pytest.mark.parametrize("count", [1, 31, 120])
def test_any_number_of_classes(count: int) -> None:
    matrix = [[5 if row == column else 0 for column in range(count)] for row in range(count)]
    shown = texts(picture([f"c{i}" for i in range(count)], matrix, [0] * count))
    assert ("5" in shown) == (count <= 30)
