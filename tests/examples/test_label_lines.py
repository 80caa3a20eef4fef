"""The classification task that every machine with CPython has."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from .run import read_rows, run_example

pytestmark = pytest.mark.slow

SPLITS = ("train", "val", "test")
LIMITS = ("--per-class", "300", "--held-out", "60")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lines") / "lines"
    run_example("label_lines.py", path, *LIMITS)
    return path


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: read_rows(folder / f"{name}.jsonl") for name in SPLITS}


def test_two_runs_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    run_example("label_lines.py", tmp_path, *LIMITS)
    for name in SPLITS:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (folder / f"{name}.jsonl").read_bytes()


def test_labels_are_balanced(splits: dict[str, list[dict[str, Any]]]) -> None:
    for name, size in zip(SPLITS, (300, 60, 60), strict=True):
        assert Counter(row["label"] for row in splits[name]) == {"code": size, "comment": size, "docstring": size}


def test_no_module_and_no_text_is_on_two_sides(splits: dict[str, list[dict[str, Any]]]) -> None:
    for left, right in combinations(SPLITS, 2):
        for of in (lambda row: row["id"].rsplit(":", 1)[0], lambda row: row["text"]):
            assert not {of(row) for row in splits[left]} & {of(row) for row in splits[right]}


def test_the_marks_that_give_a_label_away_are_gone(splits: dict[str, list[dict[str, Any]]]) -> None:
    rows = [row for split in splits.values() for row in split]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() == {"id", "text", "label"}
        assert 12 <= len(row["text"]) <= 300
        assert row["text"] == row["text"].strip()
        assert not row["text"].startswith(("#", '"""', "'''"))
