"""A metric of a confusion matrix as one number."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from gptctl.evals.scoring import averages
from gptctl.evals.scoring.averages import Averaging
from gptctl.evals.scoring.classification import estimate_of, undefined
from gptctl.evals.scoring.confusion import Confusion


def value(
    metric: ModuleType,
    confusion: Confusion,
    average: Any = "macro",
    positive: str | None = None,
    zero_division: Any = 0.0,
    over: Any = "present",
) -> float | None:
    """Return the metric, None where it doesn't exist."""
    return averages.number(estimate_of(metric, Averaging(average, positive, zero_division, over))(confusion.sums()))


def per_class(metric: ModuleType, confusion: Confusion, zero_division: Any = 0.0) -> dict[str, float | None]:
    """Return the metric of each class."""
    sums = confusion.sums()
    return averages.by_class(metric.fraction(sums), sums.labels, zero_division)


def warnings_of(metric: ModuleType, confusion: Confusion, averaging: Averaging) -> list[str]:
    """Return what is said of classes without the metric."""
    return undefined(confusion.sums(), {metric.__name__.rpartition(".")[2]: metric}, averaging)
