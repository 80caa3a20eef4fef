"""Bootstrap resampling."""

from __future__ import annotations

import numpy as np
import pytest

from gptctl.evals.stats import resampling
from gptctl.evals.stats.resampling import (
    ResamplingUnits,
    RowStatistics,
    Sample,
    bootstrap,
    resample_count,
    row_units,
)


def test_equal_rows_become_one_unit_only_where_that_pays() -> None:
    units, stats = row_units(np.array([[1.0], [0.0]] * 8))
    assert (units.counts.tolist(), stats.values.tolist()) == ([8, 8], [[0.0], [1.0]])
    assert stats.values[units.unit_of_row].tolist() == [[1.0], [0.0]] * 8
    alone, _ = row_units(np.arange(8.0)[:, None])
    assert alone.counts.tolist() == [1] * 8


def test_both_ways_of_drawing_have_the_same_distribution() -> None:
    values = np.array([[0.0]] * 30 + [[1.0]] * 10)
    few = ResamplingUnits(np.array([0] * 30 + [1] * 10), np.array([30, 10])), RowStatistics(np.array([[0.0], [1.0]]))
    many = ResamplingUnits(np.arange(40), np.ones(40, np.int64)), RowStatistics(values)
    for units, stats in (few, many):
        found = bootstrap(Sample(units, stats), {"sum": lambda totals: totals[:, 0]}, 4000, 1)["sum"]
        assert found.mean() == pytest.approx(10, abs=0.2)
        assert found.std() == pytest.approx(np.sqrt(40 * 0.25 * 0.75), rel=0.05)


def test_every_draw_has_as_many_units_as_the_data() -> None:
    for units in (
        ResamplingUnits(np.arange(5), np.ones(5, np.int64)),
        ResamplingUnits(np.zeros(9, np.int64), np.array([4, 5])),
    ):
        weights = np.concatenate(list(units.draw(1, 50, 0)))
        assert weights.shape == (50, len(units.counts))
        assert set(weights.sum(axis=1)) == {int(units.counts.sum())}


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    units = ResamplingUnits(np.arange(7), np.ones(7, np.int64))
    whole = np.concatenate(list(units.draw(1, 40, 3)))
    monkeypatch.setattr(resampling, "CHUNK_CELLS", 20)
    assert np.array_equal(np.concatenate(list(units.draw(1, 40, 3))), whole)


def test_rows_of_a_group_are_drawn_together() -> None:
    units, stats = row_units(np.array([[1.0], [2.0], [4.0]]), ["a", "b", "a"])
    assert (units.counts.tolist(), stats.values.tolist(), units.grouped) == ([1, 1], [[5.0], [2.0]], True)
    sums = bootstrap(Sample(units, stats), {"sum": lambda totals: totals[:, 0]}, 500, 0)["sum"]
    assert set(sums.tolist()) == {4.0, 7.0, 10.0}


def test_fewer_resamples_for_very_many_units() -> None:
    assert resample_count(10) == 10_000
    assert resample_count(10**6) == 1_000
