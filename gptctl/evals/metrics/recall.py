"""How much of a class was found: true positives / gold rows."""

from __future__ import annotations

from gptctl.evals import averages
from gptctl.evals.averages import Average, Averaging, Floats, Over, ZeroDivision
from gptctl.evals.confusion import Confusion, Sums


def estimate(sums: Sums, averaging: Averaging) -> Floats:
    """Give the recall of each matrix (...)."""
    return averages.mean(sums.tp, sums.support, sums, averaging)


def value(
    confusion: Confusion,
    average: Average = "macro",
    positive: str | None = None,
    zero_division: ZeroDivision = 0.0,
    over: Over = "present",
) -> float | None:
    """Give the recall, None where it does not exist. Raises UsageError as `Averaging` does."""
    return averages.number(estimate(confusion.sums(), Averaging(average, positive, zero_division, over)))


def per_class(confusion: Confusion, zero_division: ZeroDivision = 0.0) -> dict[str, float | None]:
    """Give each class its recall."""
    sums = confusion.sums()
    return averages.by_class(sums.tp, sums.support, sums.labels, zero_division)


def warnings(confusion: Confusion, averaging: Averaging) -> list[str]:
    """Name the classes that have no gold row."""
    sums = confusion.sums()
    return averages.undefined("recall", sums.support, sums, averaging)
