"""How many documents of each label go to val and test: the shares of all, divided among the labels by rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRAIN, VAL, TEST = 0, 1, 2


@dataclass(frozen=True)
class Quotas:
    """The number of documents of each label, `total`, and how many of them go to `val` and `test`, each (labels,)."""

    total: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    @classmethod
    def of(cls, total: NDArray[np.int64], val: float, test: float) -> Quotas:
        """Return the quotas for two shares. One document of each label, at least, is left for train."""
        for_test = np.minimum(apportion(total, test), np.maximum(total - 1, 0))
        for_val = np.minimum(apportion(total, val), np.maximum(total - for_test - 1, 0))
        return cls(total, for_val, for_test)


def apportion(total: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Return a share of each number, rounded so that they add up to the rounded share of the sum.

    Each is rounded down, and those with the largest remainders get one more (Hamilton's method), as in scikit-learn's
    StratifiedShuffleSplit.
    """
    exact = total * share
    whole = np.floor(exact + 1e-9).astype(np.int64)
    missing = int(np.floor(total.sum() * share + 0.5)) - int(whole.sum())
    order = np.lexsort((np.arange(len(total)), -total, whole - exact))
    whole[order[: max(0, missing)]] += 1
    return np.asarray(whole)
