"""The paired bootstrap: resample the rows that two systems share, and compare both on each resample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gptctl.evals.array_types import FloatArray, IntArray
from gptctl.evals.stats.resampling import Estimator, ResamplingUnits, Sample, resample_count


@dataclass(frozen=True, eq=False)
class PairedUnits:
    """Units of the same rows in two samples: the pairs that occur, and the unit of each pair in either sample (U,)."""

    units: ResamplingUnits
    first: IntArray
    second: IntArray


def pair_units(first: ResamplingUnits, second: ResamplingUnits) -> PairedUnits:
    """Pair the units of two samples of the same rows."""
    codes = first.unit_of_row * len(second.counts) + second.unit_of_row
    pairs, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    grouped = first.grouped and second.grouped
    units = ResamplingUnits(inverse, np.ones_like(counts) if grouped else counts.astype(np.int64), grouped)
    size = max(1, len(second.counts))
    return PairedUnits(units, pairs // size, pairs % size)


def bootstrap_differences(
    first: Sample, second: Sample, estimators: Mapping[str, tuple[Estimator, Estimator]], seed: int
) -> dict[str, FloatArray]:
    """Return each metric's value in the first sample minus that in the second, in each resample, (R,).

    `estimators` holds two functions per metric: one for the totals of each sample.
    """
    pairs = pair_units(first.units, second.units)
    ours, theirs = first.statistics.take(pairs.first), second.statistics.take(pairs.second)
    differences: dict[str, list[FloatArray]] = {name: [] for name in estimators}
    resamples = resample_count(len(pairs.units.counts))
    for weights in pairs.units.draw(ours.numbers_per_unit + theirs.numbers_per_unit, resamples, seed):
        our_totals, their_totals = ours.totals(weights), theirs.totals(weights)
        for name, (our_estimator, their_estimator) in estimators.items():
            differences[name].append(our_estimator(our_totals) - their_estimator(their_totals))
    return {name: np.concatenate(chunks) for name, chunks in differences.items()}
