"""The classification report: every metric asked for, with its interval, per class, and the matrix it all comes from."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from gptctl.core import plugins
from gptctl.core.errors import DataError, UsageError
from gptctl.evals.scoring import averages, metric_results
from gptctl.evals.scoring.averages import Average, Averaging, Over, ZeroDivision
from gptctl.evals.scoring.confusion import Confusion, Integers, Sums
from gptctl.evals.scoring.metric_results import METRICS, Measured, Part, Values
from gptctl.evals.scoring.options import Options
from gptctl.evals.stats.intervals import of_matrix
from gptctl.evals.stats.resampling import Cells, ClassSums, Estimate, Payload, Units, add_by_group, in_groups

DEFAULTS = ("accuracy", "precision", "recall", "f1")
PER_CLASS = ("precision", "recall", "f1")


def report(
    confusion: Confusion,
    metrics: Sequence[str] = DEFAULTS,
    average: Average = "macro",
    positive: str | None = None,
    zero_division: ZeroDivision = 0.0,
    interval: bool = True,
    seed: int = 0,
    over: Over = "present",
) -> Values:
    """Return everything known about a confusion matrix, ready for strict JSON (None instead of NaN).

    Keys: n, invalid, average, positive (if given), one per metric, per_class {label: {precision, recall, f1, support}},
    confusion {labels, matrix (k x k, rows are gold), invalid (k)}, averages {metric: {average: value}}, absent (classes
    in neither gold nor predictions), intervals {metric: [low, high] or None, at 95 %} and warnings (sentences).
    Raises UsageError for an unknown metric or average, "binary" without `positive`, and a `positive` outside the label
    set; DataError for 0 rows.
    """
    averaging = Averaging(average, positive, zero_division, over)
    options = Options(tuple(metrics), averaging, ci="auto" if interval else "none", seed=seed)
    modules = metric_results.chosen(options, "labels", DEFAULTS)
    return metric_results.report(measure(confusion, modules, options), options)


def measure(
    confusion: Confusion,
    modules: Mapping[str, ModuleType],
    options: Options,
    what: tuple[Units, Payload] | None = None,
) -> Measured:
    """Measure a matrix. `what` is drawn in a bootstrap; without it the cells. Raises as `report` does."""
    averaging = options.averaging
    if confusion.n == 0:
        raise DataError("0 rows to score", "check that the input holds predictions")
    if averaging.average == "samples":
        raise UsageError("average 'samples' is for rows with several labels", "use macro, micro or weighted")
    if averaging.positive is not None:
        averaging.index(confusion.labels)
    units, payload = what or of_matrix(confusion)
    sums = confusion.sums()
    part = Part(
        units,
        payload,
        {name: averages.number(estimate_of(module, averaging)(sums)) for name, module in modules.items()},
        {name: estimate_of(module, averaging) for name, module in modules.items()},
        {name: module.interval(sums) for name, module in modules.items() if hasattr(module, "interval")},
    )
    head: Values = {"invalid": confusion.invalid, "average": averaging.average}
    head |= {"positive": str(averaging.positive)} if averaging.positive is not None else {}
    warnings = (*undefined(sums, modules, averaging), *look_alikes(confusion.labels))
    return Measured(confusion.n, (part,), head, details(confusion, modules, options), None, warnings)


def details(confusion: Confusion, modules: Mapping[str, ModuleType], options: Options) -> Values:
    """Return what lies behind the metrics: other averages, classes, the matrix."""
    sums, averaging = confusion.sums(), options.averaging
    found: Values = {"averages": other_averages(sums, modules, averaging)}
    if options.per_class:
        found["per_class"] = per_class(sums, averaging.zero_division)
    if options.confusion:
        found["confusion"] = {
            "labels": list(confusion.labels),
            "matrix": confusion.matrix[:, :-1].tolist(),
            "invalid": confusion.matrix[:, -1].tolist(),
        }
    return found | {"absent": confusion.absent()}


def other_averages(
    sums: Sums, modules: Mapping[str, ModuleType], averaging: Averaging
) -> dict[str, dict[str, float | None]]:
    """Return the macro, micro and weighted average of the metrics that have a value per class."""
    ways: tuple[Average, ...] = ("macro", "micro", "weighted")
    settings = {way: Averaging(way, zero_division=averaging.zero_division, over=averaging.over) for way in ways}
    return {
        name: {way: averages.number(averages.mean(module.fraction(sums), sums, settings[way])) for way in ways}
        for name, module in modules.items()
        if hasattr(module, "fraction")
    }


def per_class(sums: Sums, zero_division: ZeroDivision) -> dict[str, dict[str, float | int | None]]:
    """Return precision, recall, F1 and the gold rows of each class."""
    columns = {
        name: averages.by_class(plugins.load(METRICS, name).fraction(sums), sums.labels, zero_division)
        for name in PER_CLASS
    }
    return {
        label: {name: column[label] for name, column in columns.items()} | {"support": int(rows)}
        for label, rows in zip(sums.labels, sums.support, strict=True)
    }


def estimate_of(module: ModuleType, averaging: Averaging) -> Estimate:
    """Return a metric as a function of Sums."""
    if hasattr(module, "fraction"):
        return lambda sums: averages.mean(module.fraction(sums), sums, averaging)
    return module.estimate  # type: ignore[no-any-return]


def undefined(sums: Sums, modules: Mapping[str, ModuleType], averaging: Averaging) -> list[str]:
    """Say which metrics are 0/0 for which classes."""
    return [
        line
        for name, module in modules.items()
        if hasattr(module, "fraction")
        for line in averages.undefined(name, module.fraction(sums)[1], sums, averaging)
    ]


def drawn(
    confusion: Confusion, gold: Integers, predicted: Integers, groups: Sequence[Any] | None
) -> tuple[Units, Payload]:
    """Say what a bootstrap draws: the cells that hold a row, or groups of rows.

    `gold` and `predicted` are the rows' places in the matrix (N,).
    """
    k = len(confusion.labels)
    if groups is None:
        found, inverse, counts = np.unique(gold * (k + 1) + predicted, return_inverse=True, return_counts=True)
        cells = Cells(confusion.labels, found // (k + 1), found % (k + 1))
        return Units(inverse.ravel(), counts.astype(np.int64)), cells
    units = in_groups(groups)
    identity = np.eye(k + 1, k, dtype=np.int64)
    right = np.where((gold == predicted)[:, None], identity[gold], 0)
    parts = (add_by_group(values, units) for values in (right, identity[predicted], identity[gold]))
    return units, ClassSums(Sums(confusion.labels, *parts))


def look_alikes(labels: Sequence[str]) -> list[str]:
    """Warn of labels that look the same and are not: é as one character and as e with an accent."""
    seen: dict[str, str] = {}
    found = []
    for label in labels:
        composed = unicodedata.normalize("NFC", label)
        if composed in seen:
            found.append(f"two labels look the same, '{seen[composed]}': they differ in Unicode normalization")
        seen.setdefault(composed, label)
    return found
