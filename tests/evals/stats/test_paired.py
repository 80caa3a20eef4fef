"""The paired bootstrap."""

from __future__ import annotations

import numpy as np

from gptctl.evals.stats.paired import bootstrap_differences, pair_units
from gptctl.evals.stats.resampling import ResamplingUnits, Sample, group_units, sample_of_rows


def test_pairs_of_units() -> None:
    first = ResamplingUnits(np.array([0, 0, 1, 1, 1]), np.array([2, 3]))
    second = ResamplingUnits(np.array([0, 1, 1, 1, 0]), np.array([2, 3]))
    pairs = pair_units(first, second)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.units.counts.tolist(), strict=True)) == [
        (0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 2),
    ]  # fmt: skip
    groups = group_units(["x", "x", "y"])
    assert pair_units(groups, groups).units.counts.tolist() == [1, 1]


def test_a_difference_is_resampled_in_pairs() -> None:
    """Two samples that differ by 1 in every row differ by 1 in the mean of every resample, however the rows vary."""
    values = np.stack((np.arange(50.0), np.ones(50)), axis=1)
    first, second = sample_of_rows(values + np.array([1.0, 0.0])), sample_of_rows(values)
    assert isinstance(first, Sample)

    def mean(totals: np.ndarray) -> np.ndarray:
        return np.asarray(totals[..., 0] / totals[..., 1])

    differences = bootstrap_differences(first, second, {"mean": (mean, mean)}, seed=0)["mean"]
    assert differences.shape == (10_000,)
    assert np.allclose(differences, 1.0)
