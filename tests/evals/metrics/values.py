"""A metric of a confusion matrix as one number."""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

from gptctl.evals.metrics import FractionMetric, Metric
from gptctl.evals.scoring.averages import Averaging, finite_or_none, values_by_class
from gptctl.evals.scoring.classification import class_estimator, undefined_warnings
from gptctl.evals.scoring.confusion import ConfusionMatrix


def value(
    metric: ModuleType,
    confusion: ConfusionMatrix,
    average: Any = "macro",
    positive: str | None = None,
    zero_division: Any = 0.0,
    macro_over: Any = "present",
) -> float | None:
    """Return the metric, or None if it is undefined."""
    averaging = Averaging(average, positive, zero_division, macro_over)
    return finite_or_none(class_estimator(cast(Metric, metric), averaging)(confusion.class_counts()))


def per_class(metric: ModuleType, confusion: ConfusionMatrix, zero_division: Any = 0.0) -> dict[str, float | None]:
    """Return the metric of each class."""
    counts = confusion.class_counts()
    return values_by_class(cast(FractionMetric, metric).class_fraction(counts), counts.labels, zero_division)


def warnings_of(metric: ModuleType, confusion: ConfusionMatrix, averaging: Averaging) -> list[str]:
    """Return the warnings about classes without the metric."""
    name = metric.__name__.rpartition(".")[2]
    return undefined_warnings(confusion.class_counts(), {name: cast(Metric, metric)}, averaging)
