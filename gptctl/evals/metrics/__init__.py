"""Metrics: one file each. Its file name is the name given to `--metrics`; a new metric needs no other change.

A metric is a module with one of three forms, each a Protocol below:

- `FractionMetric`: a numerator and a denominator per class, such as precision. `--average` decides how the classes are
  averaged.
- `CountsMetric`: one value computed from the counts of all classes, such as accuracy.
- `AdditiveMetric`: one value computed from sums of statistics over the rows, such as bits per byte.

A module may also define

    LOWER_IS_BETTER = True                  a low value is a good one
    confidence_interval(totals) -> (low, high)   a 95 % interval in closed form, from what `compute` is given

Without a closed form, the interval comes from a bootstrap. For that, the counts and totals that a metric is given have
leading axes (...), one entry per resample.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast, runtime_checkable

from gptctl.core import plugins
from gptctl.core.errors import UsageError
from gptctl.core.extras import require
from gptctl.evals.array_types import FloatArray
from gptctl.evals.scoring.averages import Fraction
from gptctl.evals.scoring.confusion import ClassCounts
from gptctl.evals.stats.intervals import Interval

PACKAGE = "gptctl.evals.metrics"
LIBRARIES = {"bleu": "sacrebleu", "chrf": "sacrebleu"}  # optional ones that a metric needs


@runtime_checkable
class Metric(Protocol):
    """What every metric has: the prediction types that it is defined for, files of gptctl/evals/prediction_types."""

    PREDICTION_TYPES: tuple[str, ...]


@runtime_checkable
class FractionMetric(Metric, Protocol):
    """A metric with a value per class. For `labels` and `multilabel` predictions."""

    def class_fraction(self, counts: ClassCounts) -> Fraction:
        """Return numerator and denominator of each class, each int64 (..., k)."""


@runtime_checkable
class CountsMetric(Metric, Protocol):
    """A metric with one value for all classes. For `labels` and `choices` predictions."""

    def compute(self, counts: ClassCounts) -> FloatArray:
        """Return the metric, float64 (...), with NaN where it is undefined."""


@runtime_checkable
class AdditiveMetric(Metric, Protocol):
    """A metric of sums over rows. For any prediction type that has no classes, and for probabilities."""

    def row_statistics(self, data: Any) -> FloatArray:
        """Return what each row adds to the sums, float64 (N, S). `data` is what the prediction type provides."""

    def compute(self, totals: FloatArray) -> FloatArray:
        """Return the metric, float64 (...), from the sums (..., S), with NaN where it is undefined."""


CONTRACT = (FractionMetric, CountsMetric, AdditiveMetric)


def load(name: str) -> Metric:
    """Load a metric. Raises UsageError (2) for an unknown name."""
    return cast(Metric, plugins.load(PACKAGE, name))


def check(names: Iterable[str]) -> None:
    """Raise UsageError (2) for an unknown metric, and MachineError (4) for one whose library is not installed."""
    for name in names:
        load(name)
        if library := LIBRARIES.get(name):
            require(library)


def select(names: Iterable[str], prediction_type: str) -> dict[str, Metric]:
    """Load metrics for a prediction type.

    Raises UsageError (2) for an unknown metric, and for one that is not defined for this type.
    """
    selected = {name: load(name) for name in dict.fromkeys(names)}
    for name, metric in selected.items():
        if prediction_type not in metric.PREDICTION_TYPES:
            fitting = [other for other in plugins.names(PACKAGE) if prediction_type in load(other).PREDICTION_TYPES]
            raise UsageError(
                f"{name} is not defined for {prediction_type.replace('_', ' ')}",
                f"metrics for such rows: {', '.join(fitting)}",
            )
    return selected


def closed_form_interval(metric: Metric, totals: Any) -> Interval | None:
    """Return the interval of a metric that has a closed form, else None."""
    function = getattr(metric, "confidence_interval", None)
    return None if function is None else cast(Interval, function(totals))


def lower_is_better(name: str) -> bool:
    """Return whether a low value of a metric is a good one. A name that is no metric is taken for a score."""
    known = name in plugins.names(PACKAGE)
    return known and bool(getattr(load(name), "LOWER_IS_BETTER", False))
