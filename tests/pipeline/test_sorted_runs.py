"""SortedRuns of sorted records that tasks hand to each other: ranges of them, places, and how many are mapped at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptctl.pipeline import sorted_runs
from gptctl.pipeline.sorted_runs import SortedRuns, distinct, of_task, places, ranges

numbers = st.integers(0, 2**64 - 1)


@given(st.lists(st.lists(st.one_of(st.integers(0, 9), numbers), max_size=20), max_size=4), numbers, numbers)
@settings(deadline=None, max_examples=60)
def test_ranges_of_all_runs(
    tmp_path_factory: pytest.TempPathFactory, values: list[list[int]], low: int, high: int
) -> None:
    """Whatever was written comes back sorted run by run, with its other columns, range by range."""
    runs = SortedRuns(tmp_path_factory.mktemp("runs"))
    for number, run in enumerate(values):
        columns = {"key": np.array(run, np.uint64), "row": np.arange(len(run))}
        assert runs.write(number, columns) == len(run)
    for first, last in ((low, high), (0, 2**64)):
        found = runs.between(first, last)
        expected = [
            (value, row)
            for run in values
            for value, row in sorted((value, row) for row, value in enumerate(run))
            if first <= value < last
        ]
        rows = [] if found is None else list(zip(found["key"].to_pylist(), found["row"].to_pylist(), strict=True))
        assert rows == expected


def test_few_runs_are_mapped_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux lets a process have 65,530 maps; 1 TB of text makes 125,000 runs."""
    runs, run_bytes = SortedRuns(tmp_path), 100 * 8
    for number in range(50):
        runs.write(number, {"key": np.arange(number, number + 100, dtype=np.uint64)})

    def copied() -> int:
        return pa.total_allocated_bytes() - before

    before = pa.total_allocated_bytes()
    whole = runs.between(0, 2**64)
    assert whole is not None and copied() < run_bytes
    monkeypatch.setattr(sorted_runs, "MOST_MAPS", 8)
    same = runs.between(0, 2**64)
    assert same is not None and same.equals(whole)
    assert copied() >= 48 * run_bytes  # the other two are mapped


def test_runs_of_another_input_go(tmp_path: Path) -> None:
    """SortedRuns from a number on are removed."""
    runs = SortedRuns(tmp_path)
    for number in (0, 3, 100_000):
        runs.write(number, {"key": np.array([number], np.uint64)})
    assert runs.numbers() == [0, 3, 100_000]
    runs.keep_first(3)
    assert runs.numbers() == [0]


def test_places() -> None:
    """They sort like the input; each task has a range of its own, and so has each part of all numbers."""
    assert places(2, np.array([0, 7])).tolist() == [2 << 40, (2 << 40) + 7]
    assert of_task(2) == (2 << 40, 3 << 40)
    assert list(ranges(3)) == [(0, 2**64 // 3), (2**64 // 3, 2**65 // 3), (2**65 // 3, 2**64)]


@given(st.lists(numbers))
def test_distinct(values: list[int]) -> None:
    """Sorted, each once."""
    assert distinct(np.array(values, np.uint64)).tolist() == sorted(set(values))
