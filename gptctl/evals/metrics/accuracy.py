"""The share of rows whose prediction is the gold label; invalid predictions are wrong ones."""

from __future__ import annotations

import numpy as np

from gptctl.evals import averages, intervals
from gptctl.evals.averages import Average, Averaging, Floats, Over, ZeroDivision
from gptctl.evals.confusion import Confusion, Sums


def estimate(sums: Sums, averaging: Averaging) -> Floats:
    """Give the accuracy of each matrix (...). No kind of averaging changes it."""
    return averages.ratio(sums.tp.sum(axis=-1), sums.support.sum(axis=-1), np.nan)


def value(
    confusion: Confusion,
    average: Average = "macro",
    positive: str | None = None,
    zero_division: ZeroDivision = 0.0,
    over: Over = "present",
) -> float | None:
    """Give the accuracy, None for no rows."""
    return averages.number(estimate(confusion.sums(), Averaging(average, positive, zero_division, over)))


def per_class(confusion: Confusion, zero_division: ZeroDivision = 0.0) -> dict[str, float | None]:
    """Give the share of each class's rows that are right."""
    sums = confusion.sums()
    return averages.by_class(sums.tp, sums.support, sums.labels, zero_division)


def warnings(confusion: Confusion, averaging: Averaging) -> list[str]:
    """Give nothing: accuracy exists for every set of rows."""
    return []


def interval(confusion: Confusion) -> tuple[float, float]:
    """Give the 95 % interval of a proportion."""
    return intervals.wilson(int(confusion.sums().tp.sum()), confusion.n)
