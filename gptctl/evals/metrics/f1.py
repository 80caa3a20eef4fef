"""The harmonic mean of precision and recall: 2 true positives / (predictions + gold rows).

Macro-F1 is the mean of the classes' F1, not the harmonic mean of macro precision and macro recall
(Opitz and Burst 2019, "Macro F1 and Macro F1", arXiv:1911.03347).
"""

from __future__ import annotations

from gptctl.evals import averages
from gptctl.evals.averages import Average, Averaging, Floats, Over, ZeroDivision
from gptctl.evals.confusion import Confusion, Sums


def estimate(sums: Sums, averaging: Averaging) -> Floats:
    """Give the F1 of each matrix (...)."""
    return averages.mean(2 * sums.tp, sums.predicted + sums.support, sums, averaging)


def value(
    confusion: Confusion,
    average: Average = "macro",
    positive: str | None = None,
    zero_division: ZeroDivision = 0.0,
    over: Over = "present",
) -> float | None:
    """Give the F1, None where it does not exist. Raises UsageError as `Averaging` does."""
    return averages.number(estimate(confusion.sums(), Averaging(average, positive, zero_division, over)))


def per_class(confusion: Confusion, zero_division: ZeroDivision = 0.0) -> dict[str, float | None]:
    """Give each class its F1."""
    sums = confusion.sums()
    return averages.by_class(2 * sums.tp, sums.predicted + sums.support, sums.labels, zero_division)


def warnings(confusion: Confusion, averaging: Averaging) -> list[str]:
    """Name the classes that are neither predicted nor in gold."""
    sums = confusion.sums()
    return averages.undefined("F1", sums.predicted + sums.support, sums, averaging)
