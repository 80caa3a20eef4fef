"""Operations on sorted numpy arrays: where runs of equal values start, and which values occur."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def run_starts(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark the first element of each run of equal values."""
    starts = np.ones(len(values), np.bool_)
    starts[1:] = values[1:] != values[:-1]
    return starts


def is_in_sorted(values: NDArray[np.uint64], sorted_values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark the values that occur in a sorted array."""
    if not len(sorted_values):
        return np.zeros(len(values), np.bool_)
    nearest = np.minimum(np.searchsorted(sorted_values, values), len(sorted_values) - 1)
    return np.asarray(sorted_values[nearest] == values)
