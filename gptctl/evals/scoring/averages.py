"""Turn per-class fractions into one number: macro, micro, weighted or of one class, with a rule for 0/0.

Precision, recall and F1 differ only in numerator and denominator; what is shared stands here. All functions take any
leading axes, so that thousands of resamples are averaged at once. Same definitions as scikit-learn's
precision_recall_fscore_support, which is the oracle in the tests. A value that does not exist is NaN inside arrays and
None outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from gptctl.core.errors import UsageError
from gptctl.core.plugins import did_you_mean, unknown
from gptctl.evals.scoring.confusion import Integers, Sums

Average: TypeAlias = Literal["macro", "micro", "weighted", "binary", "samples"]
Over: TypeAlias = Literal["present", "all"]
ZeroDivision: TypeAlias = float | Literal["nan"]
Floats: TypeAlias = npt.NDArray[np.float64]
Fraction: TypeAlias = tuple[Integers, Integers]  # numerator and denominator of each class, each (..., k)

SHOWN = 10  # classes named in a warning


@dataclass(frozen=True)
class Averaging:
    """How per-class values become one.

    average: "macro" is the plain mean over classes, "weighted" the mean by gold rows, "micro" the fraction of the
    summed counts, "binary" the value of the class `positive`, "samples" the mean over rows (sets of labels only).
    over: "present" leaves classes out of the macro mean that are neither in gold nor predicted; "all" counts them.
    zero_division: what 0/0 counts as; "nan" leaves the class out of the mean.
    Raises UsageError for an unknown `average` or `over`, and for "binary" without `positive`.
    """

    average: Average = "macro"
    positive: str | None = None
    zero_division: ZeroDivision = 0.0
    over: Over = "present"

    def __post_init__(self) -> None:
        if self.average not in get_args(Average):
            raise unknown("average", self.average, list(get_args(Average)))
        if self.over not in get_args(Over):
            raise unknown("set of classes", self.over, list(get_args(Over)))
        if self.average == "binary" and self.positive is None:
            raise UsageError(
                "average 'binary' needs to know the positive label", "add --positive LABEL, or use --average macro"
            )

    def index(self, labels: Sequence[str]) -> int:
        """Return the place of the positive label. Raises UsageError if it is not one of the labels."""
        positive = str(self.positive)
        if positive not in labels:
            near = did_you_mean(positive, list(labels))
            raise UsageError(
                f"the positive label '{positive}' is not in the label set{near}", f"known: {', '.join(labels)}"
            )
        return labels.index(positive)


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any], zero_division: ZeroDivision) -> Floats:
    """Divide elementwise (...), 0/0 being `zero_division`."""
    values = np.full(denominator.shape, float(zero_division))
    np.divide(numerator, denominator, out=values, where=denominator > 0)
    return values


def mean(fraction: Fraction, sums: Sums, averaging: Averaging) -> Floats:
    """Average the fractions of the classes (..., k) to one value (...); NaN where none exists."""
    numerator, denominator = fraction
    if averaging.average == "micro":
        return ratio(numerator.sum(axis=-1), denominator.sum(axis=-1), averaging.zero_division)
    values = ratio(numerator, denominator, averaging.zero_division)
    if averaging.average == "binary":
        return np.asarray(values[..., averaging.index(sums.labels)])
    counted = sums.present() if averaging.over == "present" else np.ones(values.shape, np.bool_)
    counted = counted & ~np.isnan(values)
    weights = counted.astype(np.float64)
    if averaging.average == "weighted":
        by_support = np.where(counted, sums.support, 0).astype(np.float64)
        # classes that all lack gold rows have no weights to go by: their plain mean, as in scikit-learn
        weights = np.where(by_support.sum(axis=-1, keepdims=True) > 0, by_support, weights)
    total = weights.sum(axis=-1)
    summed = (np.where(counted, values, 0.0) * weights).sum(axis=-1)
    averaged = np.full(total.shape, np.nan)
    np.divide(summed, total, out=averaged, where=total > 0)
    return averaged


def number(value: Any) -> float | None:
    """Return a single value as a float, and None where it is not a finite number."""
    return float(value) if np.isfinite(value) else None


def by_class(fraction: Fraction, labels: Sequence[str], zero_division: ZeroDivision) -> dict[str, float | None]:
    """Give each class its fraction; None where it is 0/0 and left out of the means."""
    values = ratio(*fraction, zero_division)
    return {label: number(value) for label, value in zip(labels, values, strict=True)}


def undefined(name: str, denominator: Integers, sums: Sums, averaging: Averaging) -> list[str]:
    """Say for which classes the metric `name` is 0/0 and what that was counted as; empty if for none."""
    concerned = sums.present() if averaging.over == "present" else np.ones(denominator.shape, np.bool_)
    if averaging.average == "binary":
        concerned = np.arange(len(sums.labels)) == averaging.index(sums.labels)
    classes = [label for label, hit in zip(sums.labels, concerned & (denominator == 0), strict=True) if hit]
    if not classes:
        return []
    named = ", ".join(f"'{label}'" for label in classes[:SHOWN])
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    zero = float(averaging.zero_division)
    outcome = "left out of the mean" if np.isnan(zero) else f"counted as {zero:g}"
    return [f"{name} is 0/0 for class {named}{more}: {outcome}"]
