"""Rows with any number of labels each: `label` and `pred` are lists of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gptctl.core.errors import UsageError
from gptctl.evals import metrics as metric_plugins
from gptctl.evals.array_types import FloatArray, IntArray
from gptctl.evals.metrics import AdditiveMetric, FractionMetric
from gptctl.evals.prediction_types import group_ids
from gptctl.evals.scoring import classification
from gptctl.evals.scoring.additive import additive_metrics
from gptctl.evals.scoring.averages import Averaging, divide, finite_or_none
from gptctl.evals.scoring.class_statistics import ClassStatistics
from gptctl.evals.scoring.confusion import ClassCounts
from gptctl.evals.scoring.metric_results import MetricGroup, MetricResult
from gptctl.evals.scoring.multilabel import label_indicators
from gptctl.evals.scoring.options import ScoringOptions
from gptctl.evals.stats.resampling import Estimator, Sample, group_units, row_units, sample_of_rows, sum_by_unit
from gptctl.io.input.predictions import Rows

DEFAULT_METRICS = ("precision", "recall", "f1", "subset_accuracy", "hamming_loss")


def matches(row: dict[str, Any]) -> bool:
    """Return whether a row has a list of labels and a prediction."""
    return isinstance(row.get("label"), list) and "pred" in row


def row_error(row: dict[str, Any]) -> str | None:
    """Return what is wrong with a row, or None."""
    for column in ("label", "pred"):
        values = row.get(column)
        if values is None and column == "label":
            return "has no label"
        if values is not None and not isinstance(values, list):
            return f"has a {column} that is not a list, in a file whose labels are lists"
        if any(value is None or isinstance(value, dict | list) for value in values or ()):
            return f"has a null or nested value in its list of {column}"
    return None


def compute_metrics(rows: Rows, options: ScoringOptions) -> MetricResult:
    """Compute metrics per class and per row. Raises DataError for a gold label outside the label set."""
    averaging = options.averaging
    if averaging.average == "binary":
        raise UsageError("average 'binary' is for rows with one label", "use macro, micro, weighted or samples")
    metrics = metric_plugins.select(options.metrics or DEFAULT_METRICS, "multilabel")
    indicators = label_indicators(rows, options.label_set)
    groups = group_ids(rows)
    fractions = classification.fraction_metrics(metrics)
    additive = {name: metric for name, metric in metrics.items() if isinstance(metric, AdditiveMetric)}
    by_row = indicators.class_counts()
    counts = ClassCounts(indicators.labels, by_row.tp.sum(0), by_row.predicted.sum(0), by_row.support.sum(0))
    metric_groups: list[MetricGroup] = []
    if fractions and averaging.average == "samples":
        metric_groups.append(sample_averages(fractions, by_row, averaging, groups))
    elif fractions:
        metric_groups.append(class_averages(fractions, by_row, averaging, groups))
    if additive:
        metric_groups.append(additive_metrics(additive, indicators, groups))
    summary = {"invalid": int(indicators.invalid.sum()), "average": averaging.average}
    details: dict[str, Any] = {"averages": classification.all_averages(counts, fractions, averaging)}
    for name, metric in fractions.items():
        details["averages"][name]["samples"] = finite_or_none(defined_mean(row_values(metric, by_row, averaging)))
    if options.per_class:
        details["per_class"] = classification.per_class(counts, averaging.zero_division)
    details["absent"] = [label for label, present in zip(counts.labels, counts.present(), strict=True) if not present]
    warnings = classification.look_alike_warnings(indicators.labels)
    if averaging.average != "samples":
        warnings += classification.undefined_warnings(counts, fractions, averaging)
    return MetricResult(len(rows), tuple(metric_groups), summary, details, indicators.correct(), tuple(warnings))


def class_averages(
    metrics: Mapping[str, FractionMetric], by_row: ClassCounts, averaging: Averaging, groups: Sequence[object] | None
) -> MetricGroup:
    """Compute metrics that are averaged over classes; equal rows form one unit."""
    estimators = {name: classification.class_estimator(metric, averaging) for name, metric in metrics.items()}
    counts = ClassCounts(by_row.labels, by_row.tp.sum(0), by_row.predicted.sum(0), by_row.support.sum(0))
    values = {name: finite_or_none(estimator(counts)) for name, estimator in estimators.items()}
    return MetricGroup(class_sample(by_row, groups), values, estimators)


def class_sample(by_row: ClassCounts, groups: Sequence[object] | None) -> Sample:
    """Build a sample from the counts of each row: units are groups, or equal rows."""
    if groups is not None:
        units = group_units(groups)
        sums = [sum_by_unit(values, units) for values in (by_row.tp, by_row.predicted, by_row.support)]
        return Sample(units, ClassStatistics(ClassCounts(by_row.labels, *sums)))
    columns = np.concatenate((by_row.tp, by_row.predicted, by_row.support), axis=1).astype(np.float64)
    units, statistics = row_units(columns)
    values: IntArray = statistics.values.astype(np.int64)
    tp, predicted, support = np.split(values, 3, axis=1)
    return Sample(units, ClassStatistics(ClassCounts(by_row.labels, tp, predicted, support)))


def sample_averages(
    metrics: Mapping[str, FractionMetric], by_row: ClassCounts, averaging: Averaging, groups: Sequence[object] | None
) -> MetricGroup:
    """Compute metrics per row and average over the rows. A row that is 0/0 counts as zero_division."""
    values = {name: row_values(metric, by_row, averaging) for name, metric in metrics.items()}
    columns = [np.stack((np.nan_to_num(column), ~np.isnan(column)), axis=1) for column in values.values()]
    return MetricGroup(
        sample_of_rows(np.concatenate(columns, axis=1).astype(np.float64), groups),
        {name: finite_or_none(defined_mean(column)) for name, column in values.items()},
        {name: mean_estimator(2 * index) for index, name in enumerate(metrics)},
    )


def mean_estimator(index: int) -> Estimator:
    """Return the function that divides total `index` by the one after it."""
    return lambda totals: divide(totals[..., index], totals[..., index + 1], "nan")


def row_values(metric: FractionMetric, by_row: ClassCounts, averaging: Averaging) -> FloatArray:
    """Return a metric's value in each row, over all its classes together (N,)."""
    numerator, denominator = metric.class_fraction(by_row)
    return divide(numerator.sum(axis=-1), denominator.sum(axis=-1), averaging.zero_division)


def defined_mean(values: FloatArray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
