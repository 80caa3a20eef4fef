"""Averages over classes: macro, micro, weighted or the value of one class, with a rule for 0/0.

Precision, recall and F1 differ only in numerator and denominator. What they share is here. All functions accept any
leading axes, so thousands of resamples are averaged at once. The definitions are those of scikit-learn's
precision_recall_fscore_support, against which the tests check them. An undefined value is NaN in arrays and None in
reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import UsageError
from gptctl.core.plugins import did_you_mean, unknown
from gptctl.evals.array_types import FloatArray, IntArray
from gptctl.evals.scoring.confusion import ClassCounts

__all__ = ["Averaging", "average_classes", "divide"]

Average: TypeAlias = Literal["macro", "micro", "weighted", "binary", "samples"]
MacroOver: TypeAlias = Literal["present", "all"]
ZeroDivision: TypeAlias = float | Literal["nan"]
Fraction: TypeAlias = tuple[IntArray, IntArray]  # numerator and denominator of each class, each (..., k)

SHOWN = 10  # classes listed in a warning


@dataclass(frozen=True)
class Averaging:
    """How the values of the classes are averaged.

    average: "macro" is the unweighted mean over classes, "weighted" the mean weighted by gold rows, "micro" the
    fraction of the summed counts, "binary" the value of the class `positive`, "samples" the mean over rows (multilabel
    only).
    macro_over: "present" excludes classes that are neither a gold label nor predicted; "all" includes them.
    zero_division: the value of 0/0; "nan" leaves the class out of the mean.
    Raises UsageError for an unknown `average` or `macro_over`, and for "binary" without `positive`.
    """

    average: Average = "macro"
    positive: str | None = None
    zero_division: ZeroDivision = 0.0
    macro_over: MacroOver = "present"

    def __post_init__(self) -> None:
        if self.average not in get_args(Average):
            raise unknown("average", self.average, list(get_args(Average)))
        if self.macro_over not in get_args(MacroOver):
            raise unknown("set of classes", self.macro_over, list(get_args(MacroOver)))
        if self.average == "binary" and self.positive is None:
            raise UsageError("average 'binary' needs a positive label", "add --positive LABEL, or use --average macro")

    def positive_index(self, labels: Sequence[str]) -> int:
        """Return the index of the positive label. Raises UsageError if it is not one of the labels."""
        positive = str(self.positive)
        if positive not in labels:
            near = did_you_mean(positive, list(labels))
            raise UsageError(
                f"the positive label '{positive}' is not in the label set{near}", f"known: {', '.join(labels)}"
            )
        return labels.index(positive)


def divide(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any], zero_division: ZeroDivision) -> FloatArray:
    """Divide elementwise (...); 0/0 is `zero_division`."""
    values = np.full(denominator.shape, float(zero_division))
    np.divide(numerator, denominator, out=values, where=denominator > 0)
    return values


def average_classes(fraction: Fraction, counts: ClassCounts, averaging: Averaging) -> FloatArray:
    """Average the fractions of the classes (..., k) to one value (...); NaN where it is undefined."""
    numerator, denominator = fraction
    if averaging.average == "micro":
        return divide(numerator.sum(axis=-1), denominator.sum(axis=-1), averaging.zero_division)
    values = divide(numerator, denominator, averaging.zero_division)
    if averaging.average == "binary":
        return np.asarray(values[..., averaging.positive_index(counts.labels)])
    included = counts.present() if averaging.macro_over == "present" else np.ones(values.shape, np.bool_)
    included = included & ~np.isnan(values)
    weights = included.astype(np.float64)
    if averaging.average == "weighted":
        by_support = np.where(included, counts.support, 0).astype(np.float64)
        # without any gold row there are no weights; the unweighted mean is used, as in scikit-learn
        weights = np.where(by_support.sum(axis=-1, keepdims=True) > 0, by_support, weights)
    total = weights.sum(axis=-1)
    summed = (np.where(included, values, 0.0) * weights).sum(axis=-1)
    averaged = np.full(total.shape, np.nan)
    np.divide(summed, total, out=averaged, where=total > 0)
    return averaged


def finite_or_none(value: Any) -> float | None:
    """Return a number as a float, or None if it is not finite."""
    return float(value) if np.isfinite(value) else None


def values_by_class(fraction: Fraction, labels: Sequence[str], zero_division: ZeroDivision) -> dict[str, float | None]:
    """Return the value of each class; None where it is 0/0 and left out of the mean."""
    values = divide(*fraction, zero_division)
    return {label: finite_or_none(value) for label, value in zip(labels, values, strict=True)}


def zero_division_warnings(metric: str, denominator: IntArray, counts: ClassCounts, averaging: Averaging) -> list[str]:
    """Return a warning that lists the classes for which the metric is 0/0; an empty list if there are none."""
    averaged = counts.present() if averaging.macro_over == "present" else np.ones(denominator.shape, np.bool_)
    if averaging.average == "binary":
        averaged = np.arange(len(counts.labels)) == averaging.positive_index(counts.labels)
    undefined = averaged & (denominator == 0)
    classes = [label for label, is_undefined in zip(counts.labels, undefined, strict=True) if is_undefined]
    if not classes:
        return []
    listed = ", ".join(f"'{label}'" for label in classes[:SHOWN])
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    zero = float(averaging.zero_division)
    outcome = "left out of the mean" if np.isnan(zero) else f"counted as {zero:g}"
    return [f"{metric} is 0/0 for class {listed}{more}: {outcome}"]
