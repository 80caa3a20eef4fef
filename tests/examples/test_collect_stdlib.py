"""The corpus that every machine with CPython has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .run import read_rows, run_example

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "new folder" / "corpus.jsonl"
    assert "documents" in run_example("collect_stdlib.py", path, "--max-mb", "4")
    return path


def test_two_runs_give_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl"
    run_example("collect_stdlib.py", again, "--max-mb", "4")
    assert again.read_bytes() == corpus.read_bytes()


def test_documents_are_sorted_whole_and_within_the_limit(corpus: Path) -> None:
    rows = read_rows(corpus)
    ids = [row["id"] for row in rows]
    assert ids == sorted(set(ids))
    assert all(row.keys() == {"id", "text", "kind", "source"} and row["text"].strip() for row in rows)
    assert 3.5e6 < sum(len(row["text"].encode()) for row in rows) <= 4e6


def test_every_kind_is_there_and_prose_is_not_cut(corpus: Path) -> None:
    rows = read_rows(corpus)
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["docstrings"] > 300
    assert kinds["topics"] > 50
    assert kinds["source"] > 50
    of_json = next(row["text"] for row in rows if row["id"] == "docstrings/json/__init__.py")
    assert of_json.startswith("JSON (JavaScript Object Notation)")
    assert "Serialize ``obj``" in of_json


def test_no_tests_and_no_other_packages(corpus: Path) -> None:
    folders = {part for row in read_rows(corpus) for part in Path(row["source"]).parts[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
